//! Whether bytes still come: what tells a slow connection from a dead one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When a question was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(u64);

/// What has come over one connection, and since when it owes an answer.
#[derive(Debug)]
pub(crate) struct Progress {
    epoch: Instant,
    bytes: AtomicU64,
    /// µs after the epoch.
    heard: AtomicU64,
    /// µs after the epoch when the first question was sent that nothing has been heard after; 0 when there is none.
    asked: AtomicU64,
    /// µs after the epoch when the last question was sent that has its answer: answers come in the order of the questions.
    answered: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            bytes: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }
}

impl Progress {
    /// Bytes have come.
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.heard.store(self.now(), Ordering::Relaxed);
        self.asked.store(0, Ordering::Relaxed);
    }

    /// A question is sent. Answers when.
    pub(crate) fn asked(&self) -> Asked {
        let now = self.now();
        let _ = self.asked.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        Asked(now)
    }

    /// It has its answer.
    pub(crate) fn answered(&self, asked: Asked) {
        self.answered.fetch_max(asked.0, Ordering::Relaxed);
    }

    /// Whether a later question has its answer: then this one has lost its own.
    pub(crate) fn is_passed_over(&self, asked: Asked) -> bool {
        self.answered.load(Ordering::Relaxed) > asked.0
    }

    /// How many bytes have come so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How long a question has been open while nothing came at all.
    pub(crate) fn silence(&self) -> Duration {
        match self.asked.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            asked => self.since(asked),
        }
    }

    /// How long nothing has come.
    pub(crate) fn quiet(&self) -> Duration {
        self.since(self.heard.load(Ordering::Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn since(&self, micros: u64) -> Duration {
        Duration::from_micros(self.now().saturating_sub(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn silence_begins_with_a_question_and_ends_with_any_byte() {
        let progress = Progress::default();
        advance(SECOND).await;
        assert_eq!(progress.silence(), Duration::ZERO);
        progress.asked();
        advance(SECOND).await;
        progress.asked();
        advance(SECOND).await;
        assert_eq!(progress.silence(), 2 * SECOND);
        progress.received(1);
        assert_eq!((progress.silence(), progress.bytes()), (Duration::ZERO, 1));
        advance(SECOND).await;
        assert_eq!((progress.silence(), progress.quiet()), (Duration::ZERO, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_passed_over_once_a_later_one_is_answered() {
        let progress = Progress::default();
        let [first, second] = [progress.asked(), {
            advance(SECOND).await;
            progress.asked()
        }];
        assert!(!progress.is_passed_over(first));
        progress.answered(first);
        assert!(!progress.is_passed_over(first));
        progress.answered(second);
        assert!(progress.is_passed_over(first) && !progress.is_passed_over(second));
    }
}
