//! The last of what would grow for as long as a client lives.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// So many are remembered.
const MOST: usize = 10_000;

/// Addresses, of which the oldest are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    addresses: HashSet<Arc<str>>,
    /// The oldest first; each once.
    in_order: VecDeque<Arc<str>>,
}

impl Recent {
    pub(crate) fn insert(&mut self, address: Arc<str>) {
        if self.addresses.insert(address.clone()) {
            self.in_order.push_back(address);
        }
        if self.in_order.len() > MOST
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.addresses.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, address: &str) -> bool {
        self.addresses.contains(address)
    }

    pub(crate) fn remove(&mut self, address: &str) {
        if self.addresses.remove(address) {
            self.in_order.retain(|other| **other != *address);
        }
    }

    /// The oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.in_order.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_what_was_removed_takes_no_place() {
        let mut recent = Recent::default();
        let address = |n: usize| -> Arc<str> { n.to_string().into() };
        for n in 0..MOST {
            recent.insert(address(n));
            recent.insert(address(n));
        }
        recent.remove("1");
        recent.insert(address(MOST));
        assert!(recent.contains("0") && !recent.contains("1") && recent.contains("10000"));
        recent.insert(address(MOST + 1));
        assert!(!recent.contains("0") && recent.contains("2"));
        assert_eq!((recent.iter().count(), recent.addresses.len()), (MOST, MOST));
    }
}
