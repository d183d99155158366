//! Calls that wait for a broker's answer: one that waits too long is named by health.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A call that was not answered for so long stands still.
const LONG: Duration = Duration::from_millis(1_500);

/// The calls of a client that wait for an answer. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct OpenCalls(Arc<Mutex<Calls>>);

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    open: BTreeMap<u64, (&'static str, Instant)>,
}

/// A call, until it is dropped.
#[derive(Debug)]
pub struct OpenCall {
    calls: OpenCalls,
    number: u64,
}

impl OpenCalls {
    /// A call begins; `what` names it.
    pub fn begin(&self, what: &'static str) -> OpenCall {
        self.begun(what, Instant::now())
    }

    /// One that began at this instant, and of which it is known only now that it is not answered in its turn.
    pub fn begun(&self, what: &'static str, since: Instant) -> OpenCall {
        let mut calls = self.0.lock();
        let number = calls.next;
        calls.next += 1;
        calls.open.insert(number, (what, since));
        OpenCall { calls: self.clone(), number }
    }

    /// The oldest call, in words, where it has waited for 1.5 s or more.
    pub fn overdue(&self) -> Option<String> {
        self.waited_for(LONG)
    }

    /// The oldest call, in words, however long it has waited: for who ran out of time himself.
    pub fn oldest(&self) -> Option<String> {
        self.waited_for(Duration::ZERO)
    }

    fn waited_for(&self, least: Duration) -> Option<String> {
        let calls = self.0.lock();
        let (what, since) = calls.open.values().min_by_key(|(_, since)| *since)?;
        let waited = since.elapsed();
        let others = calls.open.len() - 1;
        (waited >= least).then(|| match others {
            0 => format!("{what}: no answer for {waited:.1?}"),
            _ => format!("{what}: no answer for {waited:.1?}, and {others} more calls wait"),
        })
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.calls.0.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_call_is_named_once_it_waits_too_long_and_until_it_is_answered() {
        let calls = OpenCalls::default();
        let (publish, settle) = (calls.begin("publish"), calls.begin("settle"));
        sleep(LONG - Duration::from_millis(1)).await;
        assert_eq!(calls.overdue(), None);
        assert_eq!(calls.oldest().unwrap(), "publish: no answer for 1.5s, and 1 more calls wait");
        sleep(Duration::from_millis(1)).await;
        let _late = calls.clone().begin("extend");
        assert_eq!(calls.overdue().unwrap(), "publish: no answer for 1.5s, and 2 more calls wait");
        drop(publish);
        assert!(calls.overdue().unwrap().starts_with("settle: "));
        drop(settle);
        assert_eq!(calls.overdue(), None);
    }
}
