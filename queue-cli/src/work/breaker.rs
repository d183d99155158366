//! What happens when commands cannot be run at all: a pause that grows, and then the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::stderr;

use super::ending::{Ending, Reason};

/// After this many times in a row it is given up.
const TIMES: u32 = 5;
/// How long a message is given back at least, and the first pause; pauses double.
const FIRST: Duration = Duration::from_secs(1);

/// A circuit breaker round all commands of one run. Messages that it keeps from their command lose no attempt.
pub(crate) struct Breaker {
    ending: Arc<Ending>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_a_row: u32,
    failed: Option<Instant>,
    closed_again: Option<Instant>,
    why: String,
}

impl Breaker {
    pub(crate) fn new(ending: Arc<Ending>) -> Self {
        Self { ending, state: Mutex::default() }
    }

    /// Waits out a pause; when the command may begin, or `None` when none may any more.
    pub(crate) async fn pass(&self) -> Option<Instant> {
        loop {
            let (now, closed_again) = (Instant::now(), self.state().closed_again);
            match closed_again {
                _ if self.ending.reason().is_some() => return None,
                Some(at) if at > now => tokio::select! {
                    () = self.ending.begun() => {}
                    () = sleep_until(at) => {}
                },
                _ => return Some(now),
            }
        }
    }

    /// A command could be run, whatever it said of its message.
    pub(crate) fn could_run(&self) {
        let mut state = self.state();
        state.in_a_row = 0;
        state.closed_again = None;
    }

    /// One that began at `began` could not; answers how long its message is to be given back. Those that began before the
    /// last failure was known tell nothing new.
    pub(crate) fn could_not_run(&self, began: Instant, why: String) -> Duration {
        let (mut state, now) = (self.state(), Instant::now());
        if state.failed.is_none_or(|failed| began >= failed) {
            state.note(now, why);
            stderr::line(format!(
                "polyqueue: cannot run the command ({} of {TIMES} in a row): {}",
                state.in_a_row, state.why
            ));
        }
        if state.in_a_row >= TIMES {
            self.ending.begin(Reason::CannotRun);
            return Duration::ZERO;
        }
        state.closed_again.map_or(FIRST, |at| at.duration_since(now).max(FIRST))
    }

    /// Why it was given up, if it was.
    pub(crate) fn given_up(&self) -> Option<String> {
        (self.ending.reason() == Some(Reason::CannotRun)).then(|| {
            format!(
                "the command could not be run {TIMES} times in a row: {}\n  next: check --exec and run it again; \
                 the messages were given back, no attempt was counted",
                self.state().why
            )
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first time costs the other messages no pause: it may be the one command that lacks something.
    fn note(&mut self, now: Instant, why: String) {
        self.in_a_row += 1;
        self.failed = Some(now);
        self.closed_again =
            self.in_a_row.checked_sub(2).map(|doubled| now + FIRST * 2_u32.pow(doubled.min(8)));
        self.why = why;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Arc::default())
    }

    async fn fails(breaker: &Breaker) -> Duration {
        let began = breaker.pass().await.expect("it goes on");
        tokio::time::advance(Duration::from_millis(1)).await;
        breaker.could_not_run(began, "why".into())
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_the_fifth_time_ends_it() {
        let (breaker, began) = (breaker(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(fails(&breaker).await.as_secs());
        }
        assert_eq!(waits, [1, 1, 2, 4, 0]);
        assert!(began.elapsed() >= Duration::from_secs(7), "{:?}", began.elapsed());
        assert!(breaker.pass().await.is_none());
        assert!(breaker.given_up().is_some_and(|text| text.contains("why") && text.contains("next:")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_runs_closes_it() {
        let breaker = breaker();
        for _ in 0..20 {
            fails(&breaker).await;
            fails(&breaker).await;
            breaker.could_run();
        }
        assert_eq!(breaker.given_up(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_began_together_fail_once() {
        let breaker = breaker();
        let began = breaker.pass().await.expect("it goes on");
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(1)).await;
            breaker.could_not_run(began, "why".into());
        }
        assert_eq!(breaker.given_up(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ending_ends_the_pause() {
        let breaker = breaker();
        fails(&breaker).await;
        fails(&breaker).await;
        let began = Instant::now();
        breaker.ending.begin(Reason::Signal);
        assert!(breaker.pass().await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
