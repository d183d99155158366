//! The receives of a consumer that wait for messages, the oldest first.
//!
//! A task of the backend, its fetcher, looks at the [`demand`](PendingReceives::demand) whenever it has
//! [`changed`](PendingReceives::changed), asks the broker, and [`offer`](PendingReceives::offer)s what came. A receive takes what it
//! was given in the very poll that returns it: one that is dropped before loses nothing, the fetcher gets it back.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use super::demand::Demand;
use super::receives::Receives;
use crate::later::later;
use crate::lifecycle::CloseReason;
use crate::{Certainty, Error, Result};

/// The receives that wait.
#[derive(Debug)]
pub struct PendingReceives<T> {
    deadline: Duration,
    certainty: Certainty,
    receives: Mutex<Receives<T>>,
    changed: Notify,
}

/// One receive; the messages, once it was given some.
#[derive(Debug)]
#[must_use = "a receive brings nothing unless it is awaited"]
pub struct Receive<'a, T> {
    pending: &'a PendingReceives<T>,
    number: u64,
    wait: Duration,
    until: Instant,
    /// Its wait is over, the fetcher was told.
    overdue: bool,
    taken: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> PendingReceives<T> {
    /// None yet. One ends `deadline` after its wait at the latest, whatever the broker does, with a timeout of this `certainty`:
    /// whether messages may then be leased to it.
    pub fn new(deadline: Duration, certainty: Certainty) -> Self {
        Self { deadline, certainty, receives: Mutex::default(), changed: Notify::new() }
    }

    /// A receive of up to `max` messages, behind all others.
    pub fn receive(&self, max: usize, wait: Duration) -> Receive<'_, T> {
        let until = later(Instant::now(), wait);
        let number = self.receives.lock().add(max, until);
        self.changed.notify_one();
        Receive { pending: self, number, wait, until, overdue: wait.is_zero(), taken: false, timer: None }
    }

    /// What is wanted; `None` when nobody waits.
    pub fn demand(&self) -> Option<Demand> {
        self.receives.lock().demand(Instant::now())
    }

    /// Since when somebody has waited, one receive after the other, and was given nothing; `None` when nobody waits.
    pub fn unfed_since(&self) -> Option<Instant> {
        self.receives.lock().unfed_since()
    }

    /// Gives messages, sorted as they should be, to the oldest receive first. What nobody wants comes back.
    pub fn offer(&self, messages: Vec<T>) -> Vec<T> {
        self.change(|receives| receives.offer(messages))
    }

    /// The broker had no more for those up to `round`: the ones that do not wait any longer end, with nothing or with why it
    /// could not be asked.
    pub fn exhausted(&self, round: u64, error: Option<&Error>) {
        let now = Instant::now();
        let outcome = || error.cloned().map_or(Ok(Vec::new()), Err);
        self.change(|receives| receives.end(|number, until| number <= round && until <= now, outcome));
    }

    /// Ends all that wait with an error.
    pub fn fail(&self, error: &Error) {
        self.change(|receives| receives.end(|_, _| true, || Err(error.clone())));
    }

    /// Why the broker cannot be asked now, if it cannot: whoever's wait ends meanwhile ends with this.
    pub fn set_trouble(&self, trouble: Option<Error>) {
        self.receives.lock().trouble = trouble;
    }

    /// Takes back from receives that have not returned yet what must not be handed out any more. One that has nothing left
    /// waits again, in its old place.
    pub fn retain(&self, keep: impl FnMut(&T) -> bool) {
        self.receives.lock().retain(keep);
        self.changed.notify_one();
    }

    /// What receives were given that have gone without it, in no particular order.
    pub fn returned(&self) -> Vec<T> {
        self.receives.lock().returned()
    }

    /// Nothing is received from now on. That the handle was closed outweighs that the consumer was.
    pub fn close(&self, reason: CloseReason) {
        self.change(|receives| receives.close(reason));
        self.changed.notify_one();
    }

    /// Whether nothing is received any more.
    pub fn is_closed(&self) -> bool {
        self.receives.lock().is_closed()
    }

    /// Ends when the fetcher has a reason to look, also one from before it asked: a receive came, went, or its wait is over,
    /// or all were closed. For one task at a time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whom a change wakes is woken when it is over: a waker may run, or drop, what wants the lock.
    fn change<R>(&self, act: impl FnOnce(&mut Receives<T>) -> R) -> R {
        let mut receives = self.receives.lock();
        let answer = act(&mut receives);
        let woken = std::mem::take(&mut receives.woken);
        drop(receives);
        woken.into_iter().for_each(Waker::wake);
        answer
    }
}

impl<T> Receive<'_, T> {
    fn take(&mut self, waker: &Waker) -> Option<Result<Vec<T>>> {
        let taken = self.pending.receives.lock().take(self.number, waker);
        self.taken = taken.is_ok();
        // The waker from before, if there is one, is dropped here, without the lock.
        taken.ok()
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let end = if self.overdue { later(self.until, self.pending.deadline) } else { self.until };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        timer.as_mut().poll(context)
    }

    fn late(&self) -> Error {
        let after = self.wait.saturating_add(self.pending.deadline);
        Error::timeout("receive", after, self.pending.certainty)
    }
}

impl<T> Future for Receive<'_, T> {
    type Output = Result<Vec<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(outcome) = self.take(context.waker()) {
                return Poll::Ready(outcome);
            }
            ready!(self.poll_timer(context));
            let trouble = self.pending.receives.lock().trouble.clone();
            if self.overdue || trouble.is_some() {
                return Poll::Ready(Err(trouble.unwrap_or_else(|| self.late())));
            }
            // What is on its way is waited for.
            self.overdue = true;
            self.pending.changed.notify_one();
        }
    }
}

impl<T> Drop for Receive<'_, T> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let waker = self.pending.receives.lock().remove(self.number);
        drop(waker);
        self.pending.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Jitter;
    use futures_util::FutureExt;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    fn receives() -> PendingReceives<u32> {
        PendingReceives::new(SECOND, Certainty::Definite)
    }

    fn now(receive: &mut Receive<'_, u32>) -> Option<Result<Vec<u32>>> {
        receive.now_or_never()
    }

    fn got(receive: &mut Receive<'_, u32>) -> Vec<u32> {
        now(receive).expect("an outcome").expect("messages")
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_served_first_and_the_rest_comes_back() {
        let pending = receives();
        let (mut first, mut second) = (pending.receive(2, SECOND), pending.receive(2, 9 * SECOND));
        let until = Instant::now() + SECOND;
        let all = Demand { round: 2, messages: 4, immediate: false, patient: true, until };
        assert_eq!(pending.demand(), Some(all));
        assert_eq!(pending.offer(vec![1, 2, 3, 4, 5]), [5]);
        assert_eq!(pending.demand(), None);
        assert_eq!((got(&mut first), got(&mut second)), (vec![1, 2], vec![3, 4]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_to_one_who_has_gone_comes_back() {
        let pending = receives();
        let (gone, mut stays) = (pending.receive(3, SECOND), pending.receive(1, SECOND));
        assert!(pending.offer(vec![1, 2]).is_empty());
        pending.changed().await;
        drop(gone);
        pending.changed().await;
        assert_eq!(pending.returned(), [1, 2]);
        assert_eq!(pending.offer(vec![1, 2]), [2]);
        assert_eq!(got(&mut stays), [1]);
        drop(stays);
        assert!(pending.returned().is_empty());
        assert!(pending.changed().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn only_those_that_were_asked_for_and_wait_no_longer_end_with_nothing() {
        let pending = receives();
        let (mut asked, mut patient) = (pending.receive(1, Duration::ZERO), pending.receive(1, SECOND));
        let round = pending.demand().unwrap().round;
        let mut newer = pending.receive(1, Duration::ZERO);
        pending.exhausted(round, None);
        assert!(got(&mut asked).is_empty());
        assert!(now(&mut patient).is_none() && now(&mut newer).is_none());
        let demand = pending.demand().unwrap();
        assert!(demand.round > round && demand.immediate && demand.patient);
        advance(SECOND).await;
        pending.exhausted(demand.round, Some(&Error::Closed));
        assert!(matches!(now(&mut patient), Some(Err(Error::Closed))));
        assert!(matches!(now(&mut newer), Some(Err(Error::Closed))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_fetcher_learns_that_a_wait_is_over_and_has_the_deadline_to_answer() {
        let pending = receives();
        let receive = pending.receive(1, SECOND);
        pending.changed().await;
        let fetcher = async {
            pending.changed().await;
            assert!(pending.demand().unwrap().immediate);
            advance(SECOND / 2).await;
            pending.offer(vec![7])
        };
        let (outcome, rest) = tokio::join!(receive, fetcher);
        assert_eq!((outcome.unwrap(), rest.len()), (vec![7], 0));
        let error = pending.receive(1, SECOND).await.unwrap_err();
        assert_eq!(error.to_string(), "receive timed out after 2s");
        assert_eq!(pending.demand(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_can_be_asked_a_wait_ends_with_why() {
        let pending = receives();
        pending.set_trouble(Some(Error::full("it", 1)));
        let begun = Instant::now();
        assert!(matches!(pending.receive(1, 2 * SECOND).await, Err(Error::Full { .. })));
        assert_eq!(begun.elapsed(), 2 * SECOND);
        assert!(matches!(pending.receive(1, Duration::ZERO).await, Err(Error::Full { .. })));
        assert_eq!(begun.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_told_to_all_and_to_nobody_later() {
        let pending = receives();
        let (first, second) = (pending.receive(1, SECOND), pending.receive(1, Duration::ZERO));
        pending.fail(&Error::Closed);
        assert!(first.await.is_err() && second.await.is_err());
        assert!(now(&mut pending.receive(1, SECOND)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_is_taken_back_and_who_had_only_that_waits_again() {
        let pending = receives();
        let (mut first, mut second) = (pending.receive(2, SECOND), pending.receive(1, SECOND));
        pending.offer(vec![1, 2, 3]);
        pending.retain(|message| *message == 2);
        assert_eq!(got(&mut first), [2]);
        assert!(now(&mut second).is_none());
        pending.offer(vec![4]);
        assert_eq!(got(&mut second), [4]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_close_they_end_with_what_they_have() {
        let pending = receives();
        let (mut given, mut waits) = (pending.receive(1, SECOND), pending.receive(1, SECOND));
        pending.offer(vec![1]);
        pending.close(CloseReason::Consumer);
        assert_eq!((got(&mut given), got(&mut waits)), (vec![1], vec![]));
        assert!(pending.is_closed() && pending.demand().is_none());
        assert!(got(&mut pending.receive(1, SECOND)).is_empty());
        pending.close(CloseReason::Handle);
        pending.close(CloseReason::Consumer);
        assert!(matches!(now(&mut pending.receive(1, SECOND)), Some(Err(Error::Closed))));
        assert_eq!(pending.offer(vec![2]), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_is_too_long() {
        let pending = PendingReceives::new(Duration::MAX, Certainty::Definite);
        let mut receive = pending.receive(usize::MAX, Duration::MAX);
        let _other = pending.receive(usize::MAX, Duration::MAX);
        assert_eq!(pending.demand().unwrap().messages, usize::MAX);
        assert!(now(&mut receive).is_none());
        assert!(got(&mut pending.receive(0, SECOND)).is_empty());
    }
    /// Receives come, are given messages, lost ones among them, are polled, and go, in an order that a seed decides.
    #[tokio::test(start_paused = true)]
    async fn whatever_happens_every_message_is_received_once_or_comes_back() {
        for seed in 0..200 {
            let (pending, chance) = (receives(), Jitter::seeded(seed));
            let (mut open, mut next, mut out, mut back) = (Vec::new(), 0, Vec::new(), Vec::new());
            for _ in 0..200 {
                match chance.below(10) {
                    0..=2 => open.push(pending.receive(1 + chance.below(3) as usize, 9 * SECOND)),
                    3..=5 => {
                        let wanted = pending.demand().map_or(0, |demand| demand.messages);
                        let messages: Vec<u32> = (next..).take(chance.below(5) as usize).collect();
                        next += messages.len() as u32;
                        let rest = pending.offer(messages.clone());
                        assert_eq!(rest.len(), messages.len().saturating_sub(wanted));
                        back.extend(rest);
                    }
                    6 => back.extend(pending.returned()),
                    7 => {
                        let lost = chance.below(7) as u32;
                        pending.retain(|message| {
                            let stays = message % 7 != lost;
                            back.extend((!stays).then_some(*message));
                            stays
                        });
                    }
                    _ if open.is_empty() => {}
                    8 => drop(open.swap_remove(chance.below(open.len() as u64) as usize)),
                    _ => {
                        let index = chance.below(open.len() as u64) as usize;
                        if let Some(outcome) = now(&mut open[index]) {
                            let messages = outcome.unwrap();
                            assert!(!messages.is_empty() && messages.is_sorted());
                            out.extend(messages);
                            drop(open.swap_remove(index));
                        }
                    }
                }
            }
            drop(open);
            out.extend(pending.returned().into_iter().chain(back));
            out.sort_unstable();
            assert_eq!(out, (0..next).collect::<Vec<u32>>(), "seed {seed}");
        }
    }
}
