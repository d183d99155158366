//! Natural batching: what comes while calls are under way leaves together in the next one, in order.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Certainty, Error, Result};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::hub::{Busy, Entered};
use crate::link::Limit;

/// The most items of one call.
pub(crate) const MAX_ITEMS: usize = 100;
/// The most bytes of one call, unless its first item alone has more.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// What a lane does with its items.
pub(crate) trait Freight: Send + Sync + 'static {
    type Item: Send + 'static;
    type Answer: Clone + Send + 'static;
    /// What a call is named in an error.
    const NAME: &'static str;
    /// The most calls under way: unless set enough that client and server work at the same time.
    const CALLS: usize = 3;

    fn bytes(item: &Self::Item) -> usize;
    /// Sends the items in one call. Answers each, in order.
    fn carry(
        &self,
        items: Vec<Self::Item>,
        limit: Limit,
    ) -> impl Future<Output = Vec<Result<Self::Answer>>> + Send;
}

/// Carries items of one queue.
pub(crate) struct Lane<F: Freight> {
    freight: F,
    deadline: Duration,
    busy: Arc<Busy>,
    waiting: Mutex<Waiting<F>>,
    more: Notify,
}

struct Waiting<F: Freight> {
    items: VecDeque<(F::Item, Place<F::Answer>)>,
    moving: bool,
    /// Callers met on the last movement, or do on this one: they may again.
    company: bool,
    /// They met on this one.
    met: bool,
}

/// Where an item's answer goes.
struct Place<A> {
    batch: Arc<Batch<A>>,
    index: usize,
}

/// The items of one caller.
struct Batch<A>(Mutex<Progress<A>>);

struct Progress<A> {
    items: Vec<Item<A>>,
    unanswered: usize,
    abandoned: bool,
    done: Option<oneshot::Sender<()>>,
}

enum Item<A> {
    Waiting,
    Sent,
    Answered(Result<A>),
}

impl<F: Freight> Lane<F> {
    pub(crate) fn new(freight: F, deadline: Duration, busy: Arc<Busy>) -> Arc<Self> {
        let waiting =
            Mutex::new(Waiting { items: VecDeque::new(), moving: false, company: false, met: false });
        Arc::new(Self { freight, deadline, busy, waiting, more: Notify::new() })
    }

    /// Sends items and answers each, in order, at the latest after the deadline. Dropped, what was not sent may still be.
    pub(crate) async fn send(self: &Arc<Self>, items: Vec<F::Item>) -> Vec<Result<F::Answer>> {
        if items.is_empty() {
            return Vec::new();
        }
        let (batch, done) = Batch::new(items.len());
        self.enqueue(items, &batch);
        let _ = timeout(self.deadline, done).await;
        batch.answers(F::NAME, self.deadline)
    }

    /// One call beside the lane: its items neither wait for others nor go with them.
    pub(crate) async fn express(&self, items: Vec<F::Item>, limit: Limit) -> Vec<Result<F::Answer>> {
        let _busy = self.busy.enter();
        self.freight.carry(items, limit).await
    }

    fn enqueue(self: &Arc<Self>, items: Vec<F::Item>, batch: &Arc<Batch<F::Answer>>) {
        let mut waiting = self.waiting.lock();
        let places = (0..).map(|index| Place { batch: batch.clone(), index });
        waiting.items.extend(items.into_iter().zip(places));
        if std::mem::replace(&mut waiting.moving, true) {
            self.more.notify_one();
        } else {
            let moving = Moving { lane: self.clone(), arrived: false, _busy: self.busy.enter() };
            tokio::spawn(moving.run());
        }
    }

    async fn call(self: Arc<Self>, items: Vec<F::Item>, places: Vec<Place<F::Answer>>) {
        let limit = Limit::new(F::NAME, self.deadline);
        let answers = self.freight.carry(items, limit).await;
        for (place, answer) in places.into_iter().zip(answers) {
            place.batch.answer(place.index, answer);
        }
    }

    fn has_company(&self) -> bool {
        self.waiting.lock().company
    }

    /// What goes into the next call. Nothing, and no call under way: the movement has ended.
    fn load(&self, under_way: usize) -> (Vec<F::Item>, Vec<Place<F::Answer>>) {
        let mut waiting = self.waiting.lock();
        let (mut items, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
        while items.len() < MAX_ITEMS && bytes < MAX_BYTES {
            let Some((item, place)) = waiting.items.pop_front() else { break };
            if !place.batch.take(place.index) {
                continue;
            }
            bytes += F::bytes(&item);
            items.push(item);
            places.push(place);
        }
        waiting.moving = under_way > 0 || !items.is_empty();
        waiting.met |= items.len() > 1;
        waiting.company |= waiting.met;
        if !waiting.moving {
            waiting.company = std::mem::take(&mut waiting.met);
        }
        (items, places)
    }
}

/// A lane on its way. Should its task be aborted, the lane can start again.
struct Moving<F: Freight> {
    lane: Arc<Lane<F>>,
    arrived: bool,
    _busy: Entered,
}

impl<F: Freight> Moving<F> {
    async fn run(mut self) {
        let mut calls = Calls(VecDeque::with_capacity(F::CALLS));
        loop {
            // Others that are ready to run may have something for the same call. Where nobody has, it would only take time.
            if self.lane.has_company() {
                tokio::task::yield_now().await;
            }
            while calls.0.len() < F::CALLS {
                let (items, places) = self.lane.load(calls.0.len());
                if items.is_empty() {
                    break;
                }
                calls.0.push_back(Box::pin(self.lane.clone().call(items, places)));
            }
            if calls.0.is_empty() {
                self.arrived = true;
                return;
            }
            tokio::select! {
                biased;
                () = calls.one() => {}
                () = self.lane.more.notified(), if calls.0.len() < F::CALLS => {}
            }
        }
    }
}

/// Calls under way, the oldest first.
struct Calls(VecDeque<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Calls {
    /// One of them has ended. They are polled in their order, so that also what they send again (a script that the server
    /// does not know) arrives in order.
    async fn one(&mut self) {
        poll_fn(|context| {
            let ended = self.0.iter_mut().position(|call| call.as_mut().poll(context).is_ready());
            match ended {
                Some(index) => {
                    drop(self.0.remove(index));
                    Poll::Ready(())
                }
                None => Poll::Pending,
            }
        })
        .await;
    }
}

impl<F: Freight> Drop for Moving<F> {
    fn drop(&mut self) {
        if !self.arrived {
            self.lane.waiting.lock().moving = false;
        }
    }
}

impl<A: Clone> Batch<A> {
    fn new(items: usize) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (done, receiver) = oneshot::channel();
        let items_left = std::iter::repeat_with(|| Item::Waiting).take(items).collect();
        let progress = Progress { items: items_left, unanswered: items, abandoned: false, done: Some(done) };
        (Arc::new(Self(Mutex::new(progress))), receiver)
    }

    /// Whether the item is still wanted; it counts as sent from now on.
    fn take(&self, index: usize) -> bool {
        let mut progress = self.0.lock();
        if !progress.abandoned {
            progress.items[index] = Item::Sent;
        }
        !progress.abandoned
    }

    fn answer(&self, index: usize, answer: Result<A>) {
        let mut progress = self.0.lock();
        if progress.abandoned {
            return;
        }
        progress.items[index] = Item::Answered(answer);
        progress.unanswered -= 1;
        if progress.unanswered == 0
            && let Some(done) = progress.done.take()
        {
            let _ = done.send(());
        }
    }

    /// All answers; what has none by now is not sent any more, or may have happened.
    fn answers(&self, name: &'static str, deadline: Duration) -> Vec<Result<A>> {
        let mut progress = self.0.lock();
        progress.abandoned = true;
        let late = |certainty| Err(Error::timeout(name, deadline, certainty));
        let items = std::mem::take(&mut progress.items).into_iter();
        items
            .map(|item| match item {
                Item::Waiting => late(Certainty::Definite),
                Item::Sent => late(Certainty::Unknown),
                Item::Answered(answer) => answer,
            })
            .collect()
    }
}
