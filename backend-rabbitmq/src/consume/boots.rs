//! Whether what has come back was published in this boot of the broker: if not, the crash may have marked it, and nobody had it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

/// A boot that was not found is looked for again after so long: another's look may have hidden it.
const DOUBT: Duration = Duration::from_secs(10);

/// What one channel knows of the broker's boots. It ends with the broker, as its channel does.
#[derive(Debug, Default)]
pub(crate) struct Boots {
    current: BTreeSet<String>,
    past: HashMap<String, Instant>,
    /// The user may not know them.
    is_hidden: bool,
}

/// In which boot a copy was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// In this one: it came back because somebody had it.
    Current,
    /// In an earlier one, or nobody knows: the broker marks whatever it finds after a crash.
    Past,
    /// It is to be looked for.
    Unknown,
}

/// What becomes of a message by how it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    /// It did not come back.
    None,
    /// Somebody had it: that was an attempt.
    Attempt,
    /// A crash may have marked it, whoever had it: it is no attempt, and the next copy says in which boot that was found.
    Mark,
}

impl Return {
    pub(crate) fn of(came_back: bool, age: Age) -> Self {
        match age {
            _ if !came_back => Self::None,
            Age::Current => Self::Attempt,
            Age::Past | Age::Unknown => Self::Mark,
        }
    }
}

impl Boots {
    pub(crate) fn age(&self, stamp: Option<&str>) -> Age {
        let is_past = |stamp: &str| self.past.get(stamp).is_some_and(|since| since.elapsed() < DOUBT);
        match stamp {
            _ if self.is_hidden => Age::Current,
            None => Age::Past,
            Some(stamp) if self.current.contains(stamp) => Age::Current,
            Some(stamp) if is_past(stamp) => Age::Past,
            Some(_) => Age::Unknown,
        }
    }

    /// Of those that were `sought` the broker has those that were `found`; `None` where it may not be asked.
    pub(crate) fn learn(&mut self, sought: BTreeSet<String>, found: Option<BTreeSet<String>>) {
        match found {
            Some(found) => self.current.extend(found),
            None => self.is_hidden = true,
        }
        let now = Instant::now();
        self.past.retain(|_, since| since.elapsed() < DOUBT);
        self.past.extend(sought.into_iter().filter(|id| !self.current.contains(id)).map(|id| (id, now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_found_is_past_until_it_is_doubted() {
        let mut boots = Boots::default();
        assert_eq!((boots.age(None), boots.age(Some("a"))), (Age::Past, Age::Unknown));
        boots.learn(set(&["a", "b"]), Some(set(&["b", "c"])));
        let ages = ["a", "b", "c", "d"].map(|id| boots.age(Some(id)));
        assert_eq!(ages, [Age::Past, Age::Current, Age::Current, Age::Unknown]);
        tokio::time::advance(DOUBT).await;
        assert_eq!((boots.age(Some("a")), boots.age(Some("b"))), (Age::Unknown, Age::Current));
    }

    #[test]
    fn who_may_not_know_counts_whatever_came_back() {
        let mut boots = Boots::default();
        boots.learn(set(&["a"]), None);
        assert_eq!((boots.age(None), boots.age(Some("a"))), (Age::Current, Age::Current));
    }
}
