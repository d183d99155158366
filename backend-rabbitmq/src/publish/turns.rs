//! One at a time for each of very many things.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// From so many on those are forgotten that nobody holds or waits for.
const MANY: usize = 256;

/// Turns at what a key stands for.
#[derive(Debug)]
pub(crate) struct Turns<K>(Mutex<Kept<K>>);

#[derive(Debug)]
struct Kept<K> {
    turns: HashMap<K, Arc<tokio::sync::Mutex<()>>>,
    /// How many there are when it is looked which of them are used.
    full: usize,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::new(Kept { turns: HashMap::new(), full: MANY }))
    }
}

impl<K: Eq + Hash> Turns<K> {
    /// The turn at this one.
    pub(crate) fn of(&self, key: K) -> Arc<tokio::sync::Mutex<()>> {
        let mut kept = self.0.lock();
        if kept.turns.len() >= kept.full {
            kept.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            kept.full = MANY.max(kept.turns.len() * 2);
        }
        kept.turns.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_stays_and_nothing_else() {
        let turns = Turns::default();
        let held = turns.of(0).try_lock_owned().unwrap();
        for key in 1..10 * MANY {
            turns.of(key);
        }
        assert!(turns.of(0).try_lock().is_err(), "forgotten while it was held");
        assert!(turns.0.lock().turns.len() <= MANY);
        drop(held);
        assert!(turns.of(0).try_lock().is_ok());
    }
}
