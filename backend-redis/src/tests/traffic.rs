//! A client that does all that a client does, over and over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use polyqueue::{
    DeadFilter, DeadId, Message, MessageId, Page, Pattern, Purge, Queue, QueueName, QueueSpec, Reschedule,
    Subscription, Verdict,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const Q: QueueName = QueueName::from_static("q");
const DELAYED: QueueName = QueueName::from_static("delayed");
/// A reply that is long enough to be stored where a backend stores long ones.
const LONG_REPLY: usize = 128 << 10;
const PAUSE: Duration = Duration::from_millis(40);

/// How often each of them has come to its end.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) settled: AtomicU64,
    pub(super) delayed: AtomicU64,
    pub(super) declared: AtomicU64,
    pub(super) replied: AtomicU64,
}

impl Counts {
    fn all(&self) -> [u64; 4] {
        [&self.settled, &self.delayed, &self.declared, &self.replied].map(|count| count.load(Relaxed))
    }
}

/// Goes on until it is dropped.
pub(super) struct Traffic {
    queue: Arc<dyn Queue>,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

impl Traffic {
    pub(super) async fn begin(queue: Arc<dyn Queue>) -> Self {
        let (counts, mut tasks) = (Arc::<Counts>::default(), JoinSet::new());
        for name in [Q, DELAYED] {
            queue.declare(&name.into()).await.unwrap();
        }
        tasks.spawn(publish(queue.clone()));
        tasks.spawn(consume(queue.clone(), Q, counts.clone()));
        tasks.spawn(consume(queue.clone(), DELAYED, counts.clone()));
        tasks.spawn(declare(queue.clone(), counts.clone()));
        tasks.spawn(reply(queue.clone(), counts.clone()));
        let traffic = Self { queue, counts, _tasks: tasks };
        assert!(traffic.flows(Duration::from_secs(20)).await, "it never began: {:?}", traffic.counts);
        traffic
    }

    /// Whether, within this time, each of them has come to its end twice more, and health is good.
    pub(super) async fn flows(&self, within: Duration) -> bool {
        let before = self.counts.all();
        let goes_on = async {
            loop {
                let grown = before.iter().zip(self.counts.all()).all(|(before, now)| now >= before + 2);
                if grown && self.queue.health().await.healthy {
                    return;
                }
                sleep(PAUSE).await;
            }
        };
        timeout(within, goes_on).await.is_ok()
    }

    /// The first bad health within this time, in its own words, and when.
    pub(super) async fn first_red(&self, within: Duration) -> Option<(String, Duration)> {
        let began = Instant::now();
        while began.elapsed() < within {
            let health = self.queue.health().await;
            if !health.healthy {
                return Some((health.detail, began.elapsed()));
            }
            sleep(PAUSE).await;
        }
        None
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }
}

async fn publish(queue: Arc<dyn Queue>) {
    loop {
        let delayed = Message::new("late").with_delay(Duration::from_millis(50));
        let _ = queue.publish(&(&Q).into(), vec![Message::new("now"), Message::new("now")]).await;
        let _ = queue.publish(&(&DELAYED).into(), vec![delayed]).await;
        sleep(PAUSE).await;
    }
}

/// Extends each lease once, and gives each third message back before it acks it.
async fn consume(queue: Arc<dyn Queue>, name: QueueName, counts: Arc<Counts>) {
    let count = if name == Q { &counts.settled } else { &counts.delayed };
    let mut turn = 0;
    loop {
        let Ok(consumer) = queue.subscribe(&Subscription::new(name.clone())).await else {
            sleep(PAUSE).await;
            continue;
        };
        loop {
            let Ok(came) = consumer.receive(4, Duration::from_secs(1)).await else {
                sleep(PAUSE).await;
                continue;
            };
            for delivery in came {
                let _ = consumer.extend(std::slice::from_ref(&delivery.receipt)).await;
                turn += 1;
                let verdict = match turn % 3 {
                    0 => Verdict::Release { after: Duration::ZERO },
                    _ => Verdict::Ack,
                };
                if let Ok(answers) = consumer.settle(&[(delivery.receipt, verdict)]).await
                    && answers.iter().all(Result::is_ok)
                {
                    count.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

/// All that is done once in a while, by a client and by its operator, and some of it in a namespace that nobody has used.
async fn declare(queue: Arc<dyn Queue>, counts: Arc<Counts>) {
    loop {
        if operate(&*queue, counts.declared.load(Relaxed)).await.is_ok() {
            counts.declared.fetch_add(1, Relaxed);
        }
        sleep(PAUSE).await;
    }
}

async fn operate(queue: &dyn Queue, turn: u64) -> polyqueue::Result<()> {
    let pattern = Pattern::new("now.and.then")?;
    let spec = QueueSpec::new(QueueName::from_static("declared")).bind(pattern.clone());
    queue.declare(&spec).await?;
    queue.unbind(&spec.name, &pattern).await?;
    queue.queues().await?;
    let consumer = queue.subscribe(&Subscription::new(spec.name.clone())).await?;
    consumer.receive(1, Duration::from_millis(5)).await?;
    consumer.close().await?;
    drop(queue.inbox().await?);
    queue.stats(&spec.name).await?;
    queue.purge(&spec.name, Purge::Waiting).await?;
    queue.dead_letters(&spec.name, &DeadFilter::all(), Page::first(10)).await?;
    let nobody = [DeadId::new("nobody")];
    queue.redrive(&spec.name, &nobody).await?;
    queue.discard(&spec.name, &nobody).await?;
    queue.reschedule(&spec.name, &MessageId::new("nobody")?, Reschedule::After(PAUSE)).await?;
    queue.delete(&spec.name).await?;
    let fresh = queue.namespace(&format!("fresh-{turn}"))?;
    fresh.declare(&spec).await?;
    drop(fresh.subscribe(&Subscription::new(spec.name.clone())).await?);
    fresh.delete(&spec.name).await?;
    fresh.close().await
}

async fn reply(queue: Arc<dyn Queue>, counts: Arc<Counts>) {
    loop {
        let Ok(inbox) = queue.inbox().await else {
            sleep(PAUSE).await;
            continue;
        };
        loop {
            let reply = Message::new(vec![b'x'; LONG_REPLY]);
            let _ = queue.publish(&inbox.address().clone().into(), vec![reply]).await;
            if inbox.receive(Duration::from_secs(1)).await.is_ok_and(|came| !came.is_empty()) {
                counts.replied.fetch_add(1, Relaxed);
            }
            sleep(PAUSE).await;
        }
    }
}
