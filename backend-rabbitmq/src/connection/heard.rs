//! When a broker last answered a publish.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    pub(crate) fn now(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// Whether it was heard of within this time.
    pub(crate) fn within(&self, time: Duration) -> bool {
        self.0.lock().is_some_and(|at| at.elapsed() < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_never_heard_of_is_asked_and_who_was_lately_is_not() {
        let heard = Heard::default();
        assert!(!heard.within(Duration::MAX));
        heard.now();
        assert!(heard.within(Duration::from_secs(1)) && !heard.within(Duration::ZERO));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!heard.within(Duration::from_secs(1)));
    }
}
