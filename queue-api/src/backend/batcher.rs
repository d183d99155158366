//! Natural batching: what comes while calls are under way goes together with the next one, in order.

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::batch::{Batch, Place};
use super::batch_call::BatchCall;
use super::deadline::Deadline;
use crate::Result;
use crate::background::background_by_the_same_clock;
use crate::later::later;
use crate::lifecycle::{Entered, Lifecycle};

/// Sends items of many callers in few calls.
pub struct Batcher<C: BatchCall> {
    call: C,
    deadline: Duration,
    lifecycle: Lifecycle,
    gathered: Mutex<Gathered<C>>,
    more: Notify,
}

/// An item on its way into a call.
struct Waiting<C: BatchCall> {
    item: C::Item,
    place: Place<C::Answer>,
    until: Instant,
}

struct Gathered<C: BatchCall> {
    items: VecDeque<Waiting<C>>,
    /// A task sends them.
    running: bool,
    /// Callers met in the last run, or have met in this one: they may again.
    in_company: bool,
    /// They have met in this one.
    met: bool,
}

impl<C: BatchCall> Batcher<C> {
    /// Every item is answered by its `deadline`. Calls are under way in `lifecycle`, whether it is open or not.
    pub fn new(call: C, deadline: Duration, lifecycle: Lifecycle) -> Arc<Self> {
        let gathered = Gathered { items: VecDeque::new(), running: false, in_company: false, met: false };
        Arc::new(Self { call, deadline, lifecycle, gathered: Mutex::new(gathered), more: Notify::new() })
    }

    /// Sends items and answers each, in order: what is not answered by the deadline with a timeout that is definite where it was
    /// not sent. Dropped, what was not sent may still be.
    pub async fn send(self: &Arc<Self>, items: Vec<C::Item>) -> Vec<Result<C::Answer>> {
        if items.is_empty() {
            return Vec::new();
        }
        let (batch, done) = Batch::new(items.len());
        self.gather(items, &batch);
        let _ = timeout(self.deadline, done).await;
        batch.answers(C::NAME, self.deadline, self.call.obstacle())
    }

    /// One call beside the others: its items neither wait for other callers' nor go with them.
    pub async fn call_now(&self, items: Vec<C::Item>, deadline: Deadline) -> Vec<Result<C::Answer>> {
        let _entered = self.lifecycle.enter();
        self.call.call(items, deadline).await
    }

    fn gather(self: &Arc<Self>, items: Vec<C::Item>, batch: &Arc<Batch<C::Answer>>) {
        let until = later(Instant::now(), self.deadline);
        let places = items.into_iter().zip(batch.places());
        let mut gathered = self.gathered.lock();
        gathered.items.extend(places.map(|(item, place)| Waiting { item, place, until }));
        if std::mem::replace(&mut gathered.running, true) {
            self.more.notify_one();
        } else {
            let run = Run { batcher: self.clone(), ended: false, _entered: self.lifecycle.enter() };
            background_by_the_same_clock().spawn(run.run());
        }
    }

    async fn send_together(self: Arc<Self>, items: Vec<C::Item>, places: Vec<Place<C::Answer>>) {
        // They count as sent from now on, so that they do not wait for a connection any more.
        let limit = Deadline::new(C::NAME, self.deadline).connect_by(Instant::now());
        let answers = self.call.call(items, limit).await;
        for (place, answer) in places.into_iter().zip(answers) {
            place.answer(answer);
        }
    }

    fn is_in_company(&self) -> bool {
        self.gathered.lock().in_company
    }

    /// What goes with the next call. Nothing, and no call under way: the run has ended.
    fn take(&self, under_way: usize) -> (Vec<C::Item>, Vec<Place<C::Answer>>) {
        let mut gathered = self.gathered.lock();
        let (mut items, mut places, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        while items.len() < C::MAX_ITEMS && bytes < C::MAX_BYTES {
            let Some(next) = gathered.items.pop_front() else { break };
            if !next.place.take() {
                continue;
            }
            bytes = bytes.saturating_add(C::bytes(&next.item));
            items.push(next.item);
            places.push(next.place);
        }
        gathered.running = under_way > 0 || !items.is_empty();
        gathered.met |= items.len() > 1;
        gathered.in_company |= gathered.met;
        if !gathered.running {
            gathered.in_company = std::mem::take(&mut gathered.met);
        }
        (items, places)
    }

    /// Drops what is late; when the next will be. Nothing left, and no call under way: the run has ended.
    fn drop_late(&self, under_way: usize) -> Option<Instant> {
        let now = Instant::now();
        let mut gathered = self.gathered.lock();
        while gathered.items.front().is_some_and(|next| next.until <= now) {
            gathered.items.pop_front();
        }
        let next = gathered.items.front().map(|next| next.until);
        gathered.running = under_way > 0 || next.is_some();
        next
    }
}

/// The task that sends until nothing is left, on a thread of ours: whose runtime began it, others wait for it, too. Should it be
/// aborted all the same, the next item begins another.
struct Run<C: BatchCall> {
    batcher: Arc<Batcher<C>>,
    ended: bool,
    _entered: Entered,
}

impl<C: BatchCall> Run<C> {
    async fn run(mut self) {
        let mut calls = Calls(VecDeque::with_capacity(C::CALLS));
        loop {
            // Others that are ready to run may have something for the same call. Where nobody has, it would only take time.
            if self.batcher.is_in_company() {
                tokio::task::yield_now().await;
            }
            let late = match self.batcher.call.obstacle() {
                None => {
                    self.begin(&mut calls);
                    None
                }
                Some(_) => self.batcher.drop_late(calls.0.len()),
            };
            if calls.0.is_empty() && late.is_none() {
                self.ended = true;
                return;
            }
            tokio::select! {
                biased;
                () = calls.one() => {}
                () = self.batcher.more.notified(), if calls.0.len() < C::CALLS => {}
                () = unobstructed_by(&self.batcher.call, late) => {}
            }
        }
    }

    fn begin(&self, calls: &mut Calls) {
        while calls.0.len() < C::CALLS {
            let (items, places) = self.batcher.take(calls.0.len());
            if items.is_empty() {
                break;
            }
            calls.0.push_back(Box::pin(self.batcher.clone().send_together(items, places)));
        }
    }
}

/// Ends when the obstacle does, or at `late`; never where nothing waits for it.
async fn unobstructed_by<C: BatchCall>(call: &C, late: Option<Instant>) {
    match late {
        Some(late) => tokio::select! {
            () = call.unobstructed() => {}
            () = sleep_until(late) => {}
        },
        None => pending().await,
    }
}

impl<C: BatchCall> Drop for Run<C> {
    fn drop(&mut self) {
        if !self.ended {
            self.batcher.gathered.lock().running = false;
        }
    }
}

/// Calls under way, the oldest first.
struct Calls(VecDeque<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Calls {
    /// One of them has ended. They are polled in their order, so that also what they send again arrives in order.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Certainty, Error};
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::runtime::Builder;
    use tokio::sync::watch;
    use tokio::time::sleep;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes a second for a call and writes down who went together.
    #[derive(Debug, Default)]
    struct Slow<const CALLS: usize>(Arc<Mutex<Vec<Vec<u32>>>>);

    impl<const CALLS: usize> BatchCall for Slow<CALLS> {
        type Item = u32;
        type Answer = u32;
        const NAME: &'static str = "publish";
        const CALLS: usize = CALLS;
        const MAX_ITEMS: usize = 4;
        const MAX_BYTES: usize = 1000;

        fn bytes(item: &u32) -> usize {
            *item as usize
        }

        async fn call(&self, items: Vec<u32>, _: Deadline) -> Vec<Result<u32>> {
            self.0.lock().push(items.clone());
            sleep(SECOND).await;
            items
                .into_iter()
                .map(|item| if item == 13 { Err(Error::Closed) } else { Ok(10 * item) })
                .collect()
        }
    }

    type Log = Arc<Mutex<Vec<Vec<u32>>>>;

    fn batcher<const CALLS: usize>(deadline: Duration) -> (Arc<Batcher<Slow<CALLS>>>, Log, Lifecycle) {
        let (log, lifecycle) = (Log::default(), Lifecycle::default());
        (Batcher::new(Slow(log.clone()), deadline, lifecycle.clone()), log, lifecycle)
    }

    fn numbers(answers: Vec<Result<u32>>) -> Vec<u32> {
        answers.into_iter().map(|answer| answer.unwrap_or(0)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_meanwhile_goes_together_with_the_next() {
        let (batcher, log, lifecycle) = batcher::<1>(9 * SECOND);
        let late = async |items| {
            sleep(SECOND / 2).await;
            batcher.send(items).await
        };
        let all = join_all([
            batcher.send(vec![1]).boxed_local(),
            late(vec![2, 13]).boxed_local(),
            late(vec![4]).boxed_local(),
        ]);
        assert!(batcher.send(vec![]).await.is_empty());
        let answers: Vec<_> = all.await.into_iter().map(numbers).collect();
        assert_eq!(answers, [vec![10], vec![20, 0], vec![40]]);
        assert_eq!(*log.lock(), [vec![1], vec![2, 13, 4]]);
        lifecycle.idle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_under_way_together_and_each_is_bounded() {
        let (batcher, log, _) = batcher::<2>(9 * SECOND);
        let begun = Instant::now();
        let answers = numbers(batcher.send(vec![1, 2, 3, 4, 5, 6, 990, 7, 999, 8, 9]).await);
        assert_eq!(answers, [10, 20, 30, 40, 50, 60, 9900, 70, 9990, 80, 90]);
        assert_eq!(*log.lock(), [vec![1, 2, 3, 4], vec![5, 6, 990], vec![7, 999], vec![8, 9]]);
        assert_eq!(begun.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_was_sent_or_never_will_be() {
        let (batcher, log, lifecycle) = batcher::<1>(SECOND * 3 / 2);
        let answers = batcher.send((1..=9).collect()).await;
        let certainties: Vec<_> =
            answers.into_iter().map(|answer| answer.map_err(|e| e.certainty())).collect();
        let (unknown, definite) = (Err(Certainty::Unknown), Err(Certainty::Definite));
        assert_eq!(certainties[3..9], [Ok(40), unknown, unknown, unknown, unknown, definite]);
        lifecycle.close();
        lifecycle.idle().await;
        assert_eq!(*log.lock(), [vec![1, 2, 3, 4], vec![5, 6, 7, 8]]);
    }

    /// Nothing can be sent while this is so.
    struct Blocked(watch::Receiver<bool>, Log);

    impl BatchCall for Blocked {
        type Item = u32;
        type Answer = u32;
        const NAME: &'static str = "publish";

        fn bytes(_: &u32) -> usize {
            1
        }

        async fn call(&self, items: Vec<u32>, _: Deadline) -> Vec<Result<u32>> {
            self.1.lock().push(items.clone());
            items.into_iter().map(Ok).collect()
        }

        fn obstacle(&self) -> Option<Error> {
            self.0.borrow().then(|| Error::unavailable("test", Certainty::Unknown, "blocked"))
        }

        async fn unobstructed(&self) {
            let _ = self.0.clone().wait_for(|blocked| !blocked).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_obstacle_outlasts_was_not_sent_and_the_rest_is_sent_when_it_ends() {
        let (blocked, log, lifecycle) = (watch::Sender::new(true), Log::default(), Lifecycle::default());
        let call = Blocked(blocked.subscribe(), log.clone());
        let batcher = Batcher::new(call, SECOND, lifecycle.clone());
        let error = batcher.send(vec![1]).await.remove(0).unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        assert_eq!(error.certainty(), Certainty::Definite);
        lifecycle.idle().await;
        let waiting = batcher.send(vec![2, 3]);
        let mended = async {
            sleep(SECOND / 2).await;
            blocked.send_replace(false);
        };
        let (answers, ()) = tokio::join!(waiting, mended);
        assert_eq!(numbers(answers), [2, 3]);
        assert_eq!(*log.lock(), [[2, 3]]);
        drop(batcher.send(vec![4]).now_or_never());
        lifecycle.idle().await;
    }

    #[test]
    fn what_others_wait_for_does_not_end_with_the_runtime_of_the_first_caller() {
        let (blocked, log) = (watch::Sender::new(true), Log::default());
        let call = Blocked(blocked.subscribe(), log.clone());
        let batcher = Batcher::new(call, SECOND, Lifecycle::default());
        let [first, second] = [(); 2].map(|()| Builder::new_current_thread().enable_all().build().unwrap());
        drop(first.block_on(async { batcher.send(vec![1]).now_or_never() }));
        let mut waiting = std::pin::pin!(batcher.send(vec![2]));
        second.block_on(async {
            assert!(waiting.as_mut().now_or_never().is_none());
            std::thread::spawn(|| drop(first)).join().unwrap();
            blocked.send_replace(false);
            assert_eq!(numbers(waiting.await), [2]);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_gone_may_have_sent() {
        let (batcher, log, lifecycle) = batcher::<1>(9 * SECOND);
        drop(batcher.send(vec![1]).now_or_never());
        lifecycle.idle().await;
        assert_eq!(*log.lock(), [[1]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_beside_the_others_waits_for_none() {
        let (batcher, log, lifecycle) = batcher::<1>(9 * SECOND);
        let now = batcher.call_now(vec![7], Deadline::new("publish", SECOND));
        let (_, answers) = tokio::join!(batcher.send(vec![1]), now);
        assert_eq!((numbers(answers), log.lock().len()), (vec![70], 2));
        assert!(lifecycle.idle().now_or_never().is_some());
    }
}
