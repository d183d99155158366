//! Calls that a broker refuses: health names what fails and does not work again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A refusal that nothing followed says so long that it does not work …
const LASTS: Duration = Duration::from_secs(2);
/// … and so long where something of its kind has worked since: of messages that take turns some may still fail.
const LASTS_BESIDE_SUCCESS: Duration = Duration::from_secs(1);
/// No more are remembered; who is beyond them fails for the same reason as a rule.
const MOST: usize = 64;

/// The calls that a broker has refused in the last seconds, by their kind and by what they are about: a queue, a catalogue. Only what
/// the broker could do and does not do belongs here, not what a caller did wrong.
#[derive(Debug, Default)]
pub struct Refusals {
    refused: Mutex<HashMap<(&'static str, String), Refusal>>,
    /// How many: where none failed, a call that worked costs next to nothing.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Refusal {
    why: String,
    at: Instant,
    worked_since: bool,
}

impl Refusal {
    fn lasts(&self) -> bool {
        self.at.elapsed() < if self.worked_since { LASTS_BESIDE_SUCCESS } else { LASTS }
    }
}

impl Refusals {
    /// A call of this kind was refused.
    pub fn refused(&self, what: &'static str, about: &str, why: &str) {
        let mut refused = self.refused.lock();
        refused.retain(|_, refusal| refusal.lasts());
        let key = (what, about.to_owned());
        if refused.len() < MOST || refused.contains_key(&key) {
            refused.insert(key, Refusal { why: why.to_owned(), at: Instant::now(), worked_since: false });
        }
        self.count.store(refused.len(), Ordering::Release);
    }

    /// A call of this kind worked; `about` is asked for only where it matters.
    pub fn worked<T: Into<String>>(&self, what: &'static str, about: impl FnOnce() -> T) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut refused = self.refused.lock();
        if let Some(refusal) = refused.get_mut(&(what, about().into())) {
            refusal.worked_since = true;
        }
        refused.retain(|_, refusal| refusal.lasts());
        self.count.store(refused.len(), Ordering::Release);
    }

    /// What was refused last and does not work again, in words, of those that are about something that `concerns` the asker.
    pub fn latest(&self, concerns: impl Fn(&str) -> bool) -> Option<String> {
        let refused = self.refused.lock();
        let lasting = refused.iter().filter(|((_, about), refusal)| concerns(about) && refusal.lasts());
        let ((what, about), Refusal { why, .. }) = lasting.max_by_key(|(_, refusal)| refusal.at)?;
        Some(if about.is_empty() {
            format!("{what} fails: {why}")
        } else {
            format!("{what} on {about} fails: {why}")
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    fn latest(refusals: &Refusals) -> Option<String> {
        refusals.latest(|_| true)
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_named_until_it_works_or_nobody_tries() {
        let refusals = Refusals::default();
        assert_eq!(latest(&refusals), None);
        refusals.refused("publish", "a:{q}", "WRONGTYPE");
        assert_eq!(latest(&refusals).unwrap(), "publish on a:{q} fails: WRONGTYPE");
        refusals.refused("connect", "", "no");
        advance(TENTH).await;
        refusals.worked("receive", || "a:{q}");
        refusals.worked("publish", || "a:{other}");
        advance(LASTS - 2 * TENTH).await;
        refusals.refused("publish", "a:{q}", "again");
        advance(LASTS - TENTH).await;
        assert_eq!(latest(&refusals).unwrap(), "publish on a:{q} fails: again");
        advance(TENTH).await;
        assert_eq!(latest(&refusals), None, "nobody tries");
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_is_soon_forgiven_and_what_fails_by_turns_is_not() {
        let refusals = Refusals::default();
        for _ in 0..20 {
            refusals.refused("publish", "q", "WRONGTYPE");
            advance(5 * TENTH).await;
            refusals.worked("publish", || "q");
            assert!(latest(&refusals).is_some(), "every other one fails");
        }
        advance(LASTS_BESIDE_SUCCESS - 5 * TENTH).await;
        assert_eq!(latest(&refusals), None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_hears_of_what_concerns_it_and_not_everything_is_remembered() {
        let refusals = Refusals::default();
        for nth in 0..2 * MOST {
            refusals.refused("reply", &format!("a:{nth}"), "no");
        }
        assert_eq!(refusals.refused.lock().len(), MOST);
        assert_eq!(refusals.latest(|about| about.starts_with("b:")), None);
        assert!(refusals.latest(|about| about.starts_with("a:")).is_some());
        advance(LASTS).await;
        refusals.refused("reply", "a:0", "no");
        assert_eq!(refusals.refused.lock().len(), 1);
    }
}
