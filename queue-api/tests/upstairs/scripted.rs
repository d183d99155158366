//! A broker that does as a test says: what it hands out, how it answers verdicts and extensions, and what it was asked.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    Admin, Certainty, Consumer, DEFAULT_MAX_ATTEMPTS, DeadFilter, DeadId, DeadPage, Delivery, Destination,
    Error, Events, Extended, Health, Inbox, Info, Message, MessageId, Page, Pattern, Payload, Published,
    Purge, Queue, QueueName, QueueSpec, QueueStats, Receipt, Reschedule, Result, Settled, Subscription,
    Verdict, async_trait,
};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::scripted_health::ScriptedHealth;

/// The queue of most tests.
pub(crate) const Q: QueueName = QueueName::from_static("q");
/// Its leases.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A typed payload.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ping(pub u32);

impl Payload for Ping {
    const KIND: &'static str = "ping";
}

/// What the broker was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Receive { queue: QueueName, max: usize },
    Settle(Vec<(String, Verdict)>),
    Extend(Vec<String>),
    Close(QueueName),
}

/// How the broker answers a call.
#[derive(Clone, Debug)]
pub(crate) enum Answer<T> {
    /// The same for each item.
    Each(T),
    /// An error for the whole call.
    Error(Error),
    /// Not at all.
    Never,
    /// By a panic.
    Panic,
}

#[derive(Debug, Default)]
struct Script {
    ready: HashMap<QueueName, VecDeque<Delivery>>,
    receive_errors: VecDeque<Error>,
    subscribe_errors: VecDeque<Error>,
    stats: VecDeque<Result<QueueStats>>,
    settle: VecDeque<Answer<Settled>>,
    settled: HashMap<String, Settled>,
    extend: Option<Answer<Extended>>,
    at_close: Vec<Delivery>,
    closed: Vec<QueueName>,
    calls: Vec<(Instant, Call)>,
    subscriptions: Vec<Subscription>,
}

#[derive(Debug, Default)]
pub(crate) struct Broker {
    script: Mutex<Script>,
    changed: Notify,
    pub(crate) health: ScriptedHealth,
    pub(crate) receiving: AtomicUsize,
    pub(crate) dropped_receives: AtomicUsize,
}

/// A handle, and a consumer, of the scripted broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scripted(pub(crate) Arc<Broker>);

impl Scripted {
    pub(crate) fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(self.clone())
    }

    /// Makes a message ready, with its id as its receipt.
    pub(crate) fn ready(&self, id: &str, message: Message) {
        self.ready_in(Q, id, message);
    }

    pub(crate) fn ready_in(&self, queue: QueueName, id: &str, message: Message) {
        let delivery = delivery(&queue, id, message, 1);
        self.0.script.lock().ready.entry(queue).or_default().push_back(delivery);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn ready_again(&self, id: &str, attempt: u32, message: Message) {
        let delivery = delivery(&Q, id, message, attempt);
        self.0.script.lock().ready.entry(Q).or_default().push_back(delivery);
        self.0.changed.notify_waiters();
    }

    /// Receives end with nothing, and at once, as after a close.
    pub(crate) fn at_once(&self) {
        self.0.script.lock().closed.push(Q);
    }

    /// What the pending receive ends with when the consumer is closed.
    pub(crate) fn at_close(&self, id: &str, message: Message) {
        self.0.script.lock().at_close.push(delivery(&Q, id, message, 1));
    }

    pub(crate) fn subscribe_fails(&self, errors: impl IntoIterator<Item = Error>) {
        self.0.script.lock().subscribe_errors.extend(errors);
    }

    /// How the next calls of `stats` are answered; afterwards every queue is there, and empty.
    pub(crate) fn stats_answers(&self, answers: impl IntoIterator<Item = Result<QueueStats>>) {
        self.0.script.lock().stats.extend(answers);
    }

    pub(crate) fn receive_fails(&self, errors: impl IntoIterator<Item = Error>) {
        self.0.script.lock().receive_errors.extend(errors);
        self.0.changed.notify_waiters();
    }

    /// How the next calls of `settle` are answered; afterwards verdicts apply.
    pub(crate) fn settle_answers(&self, answers: impl IntoIterator<Item = Answer<Settled>>) {
        self.0.script.lock().settle.extend(answers);
    }

    /// How verdicts on one receipt are answered from now on.
    pub(crate) fn settles_as(&self, id: &str, answer: Settled) {
        self.0.script.lock().settled.insert(id.into(), answer);
    }

    /// How `extend` is answered from now on; unless said, with a new full lease.
    pub(crate) fn extend_answers(&self, answer: Option<Answer<Extended>>) {
        self.0.script.lock().extend = answer;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.0.script.lock().calls.iter().map(|(_, call)| call.clone()).collect()
    }

    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        self.0.script.lock().subscriptions.clone()
    }

    /// The instants of the calls that `of` picks.
    pub(crate) fn times<T>(&self, of: impl Fn(&Call) -> Option<T>) -> Vec<(Instant, T)> {
        self.0.script.lock().calls.iter().filter_map(|(at, call)| Some((*at, of(call)?))).collect()
    }

    /// All verdicts given so far, by receipt.
    pub(crate) fn verdicts(&self) -> Vec<(String, Verdict)> {
        let settles = self.times(|call| match call {
            Call::Settle(verdicts) => Some(verdicts.clone()),
            _ => None,
        });
        settles.into_iter().flat_map(|(_, verdicts)| verdicts).collect()
    }

    /// Waits until the broker was asked something, or got to a state, that `so` accepts.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let reached = async {
            while !so(self) {
                let changed = self.0.changed.notified();
                if so(self) {
                    return;
                }
                changed.await;
            }
        };
        let patience = Duration::from_secs(300);
        timeout(patience, reached).await.unwrap_or_else(|_| panic!("never: {what}; {:#?}", self.calls()));
    }

    pub(crate) async fn until_settled(&self, verdicts: usize) {
        self.until(&format!("{verdicts} verdicts"), |broker| broker.verdicts().len() >= verdicts).await;
    }

    fn note(&self, call: Call) {
        self.0.script.lock().calls.push((Instant::now(), call));
        self.0.changed.notify_waiters();
    }
}

pub(crate) fn ping(n: u32) -> Message {
    Message::of(&Ping(n)).unwrap()
}

pub(crate) fn away() -> Error {
    Error::unavailable("scripted", Certainty::Unknown, "connection reset")
}

fn delivery(queue: &QueueName, id: &str, message: Message, attempt: u32) -> Delivery {
    let max_attempts = DEFAULT_MAX_ATTEMPTS.get();
    Delivery::new(queue.clone(), message, attempt, max_attempts, Receipt::new(id), Instant::now() + LEASE)
}

#[async_trait]
impl Queue for Scripted {
    fn info(&self) -> Info {
        Info::new("scripted")
    }

    async fn declare(&self, _: &QueueSpec) -> Result<()> {
        unimplemented!("not scripted")
    }

    async fn publish(&self, _: &Destination, _: Vec<Message>) -> Result<Vec<Result<Published>>> {
        unimplemented!("not scripted")
    }

    async fn reschedule(&self, _: &QueueName, _: &MessageId, _: Reschedule) -> Result<bool> {
        unimplemented!("not scripted")
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        let mut script = self.0.script.lock();
        if let Some(error) = script.subscribe_errors.pop_front() {
            return Err(error);
        }
        if subscription.queue.as_str() == "nowhere" {
            return Err(Error::not_found(subscription.queue.clone()));
        }
        script.subscriptions.push(subscription.clone());
        let (queue, max_attempts) = (subscription.queue.clone(), subscription.max_attempts);
        Ok(Box::new(Reader { broker: self.clone(), queue, max_attempts }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        unimplemented!("not scripted")
    }

    async fn health(&self) -> Health {
        self.0.health.look().await
    }

    fn events(&self) -> Events {
        unimplemented!("not scripted")
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        unimplemented!("not scripted: {namespace}")
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Admin for Scripted {
    async fn unbind(&self, _: &QueueName, _: &Pattern) -> Result<()> {
        unimplemented!("not scripted")
    }
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        unimplemented!("not scripted")
    }
    async fn delete(&self, _: &QueueName) -> Result<()> {
        unimplemented!("not scripted")
    }
    async fn stats(&self, _: &QueueName) -> Result<QueueStats> {
        self.0.script.lock().stats.pop_front().unwrap_or_else(|| Ok(QueueStats::default()))
    }
    async fn purge(&self, _: &QueueName, _: Purge) -> Result<u64> {
        unimplemented!("not scripted")
    }
    async fn dead_letters(&self, _: &QueueName, _: &DeadFilter, _: Page) -> Result<DeadPage> {
        unimplemented!("not scripted")
    }
    async fn redrive(&self, _: &QueueName, _: &[DeadId]) -> Result<Vec<bool>> {
        unimplemented!("not scripted")
    }
    async fn discard(&self, _: &QueueName, _: &[DeadId]) -> Result<Vec<bool>> {
        unimplemented!("not scripted")
    }
}

#[derive(Debug)]
struct Reader {
    broker: Scripted,
    queue: QueueName,
    max_attempts: NonZeroU32,
}

/// Counts a `receive` as dropped unless it came to its end.
struct Pending<'a>(&'a Broker, bool);

impl<'a> Pending<'a> {
    fn new(broker: &'a Broker) -> Self {
        broker.receiving.fetch_add(1, SeqCst);
        Self(broker, false)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.receiving.fetch_sub(1, SeqCst);
        if !self.1 {
            self.0.dropped_receives.fetch_add(1, SeqCst);
        }
    }
}

impl Reader {
    /// What a receive ends with now, if it does.
    fn got(&self, max: usize) -> Option<Result<Vec<Delivery>>> {
        let mut script = self.broker.0.script.lock();
        if let Some(error) = script.receive_errors.pop_front() {
            return Some(Err(error));
        }
        if script.closed.contains(&self.queue) {
            return Some(Ok(std::mem::take(&mut script.at_close)));
        }
        let ready = script.ready.get_mut(&self.queue).filter(|ready| !ready.is_empty())?;
        let count = max.min(ready.len());
        let mut got: Vec<Delivery> = ready.drain(..count).collect();
        for delivery in &mut got {
            delivery.lease_until = Instant::now() + LEASE;
            delivery.max_attempts = delivery.message.max_attempts().unwrap_or(self.max_attempts).get();
        }
        Some(Ok(got))
    }
}

#[async_trait]
impl Consumer for Reader {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let mut pending = Pending::new(&self.broker.0);
        self.broker.note(Call::Receive { queue: self.queue.clone(), max });
        let got = async {
            loop {
                let changed = self.broker.0.changed.notified();
                if let Some(got) = self.got(max) {
                    return got;
                }
                changed.await;
            }
        };
        let got = timeout(wait, got).await.unwrap_or(Ok(Vec::new()));
        pending.1 = true;
        got
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        let given = verdicts
            .iter()
            .map(|(receipt, verdict)| (receipt.text().unwrap_or_default().to_owned(), verdict.clone()));
        self.broker.note(Call::Settle(given.collect()));
        let answer = self.broker.0.script.lock().settle.pop_front();
        match answer {
            Some(Answer::Each(answer)) => Ok(vec![Ok(answer); verdicts.len()]),
            Some(Answer::Error(error)) => Err(error),
            Some(Answer::Never) => std::future::pending().await,
            Some(Answer::Panic) => panic!("scripted"),
            None => {
                let script = self.broker.0.script.lock();
                let answer =
                    |receipt: &Receipt| script.settled.get(receipt.text().unwrap_or_default()).copied();
                Ok(verdicts
                    .iter()
                    .map(|(receipt, _)| Ok(answer(receipt).unwrap_or(Settled::Applied)))
                    .collect())
            }
        }
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        self.broker.note(Call::Extend(
            receipts.iter().map(|receipt| receipt.text().unwrap_or_default().to_owned()).collect(),
        ));
        let answer = self.broker.0.script.lock().extend.clone();
        match answer {
            None => Ok(vec![Ok(Extended::Until(Instant::now() + LEASE)); receipts.len()]),
            Some(Answer::Each(answer)) => Ok(vec![Ok(answer); receipts.len()]),
            Some(Answer::Error(error)) => Err(error),
            Some(Answer::Never) => std::future::pending().await,
            Some(Answer::Panic) => panic!("scripted"),
        }
    }

    async fn close(&self) -> Result<()> {
        self.broker.0.script.lock().closed.push(self.queue.clone());
        self.broker.note(Call::Close(self.queue.clone()));
        Ok(())
    }
}
