//! What is in hand: in the order in which it is due, and when it is due in turns, a queue after the other.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Messages until they are due, and while they wait for their turn.
pub(crate) struct Window<T> {
    later: BTreeMap<(i64, u64), (String, T)>,
    /// What is due, by whom it is for.
    due: HashMap<String, VecDeque<T>>,
    /// Whose turn is next.
    turns: VecDeque<String>,
    taken: u64,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { later: BTreeMap::new(), due: HashMap::new(), turns: VecDeque::new(), taken: 0 }
    }
}

impl<T> Window<T> {
    /// Takes up one that is due then, for somebody. Those of one time keep their order.
    pub(crate) fn put(&mut self, due: i64, whose: String, item: T) {
        self.taken += 1;
        self.later.insert((due, self.taken), (whose, item));
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<i64> {
        self.later.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next that is due by then, a queue after the other.
    pub(crate) fn take(&mut self, now: i64) -> Option<T> {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let (whose, item) = entry.remove();
            let of_one = self.due.entry(whose.clone()).or_default();
            if of_one.is_empty() {
                self.turns.push_back(whose);
            }
            of_one.push_back(item);
        }
        let whose = self.turns.pop_front()?;
        let of_one = self.due.get_mut(&whose)?;
        let item = of_one.pop_front();
        if of_one.is_empty() {
            self.due.remove(&whose);
        } else {
            self.turns.push_back(whose);
        }
        item
    }

    /// Takes those out that are not due and of which this holds.
    pub(crate) fn take_back(&mut self, is_meant: impl Fn(&T) -> bool) -> Vec<T> {
        let meant = self.later.iter().filter(|(_, (_, item))| is_meant(item));
        let keys: Vec<(i64, u64)> = meant.map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| self.later.remove(key)).map(|(_, item)| item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(items: &[(i64, &str, u32)]) -> Window<u32> {
        let mut window = Window::default();
        for (due, whose, item) in items {
            window.put(*due, (*whose).to_owned(), *item);
        }
        window
    }

    fn all(window: &mut Window<u32>, now: i64) -> Vec<u32> {
        std::iter::from_fn(|| window.take(now)).collect()
    }

    #[test]
    fn what_is_due_comes_by_its_time_and_equals_in_their_order() {
        let mut window = window(&[(30, "a", 3), (10, "a", 1), (20, "a", 20), (20, "a", 21), (40, "a", 4)]);
        assert_eq!((window.take(9), window.next_due()), (None, Some(10)));
        assert_eq!(all(&mut window, 30), [1, 20, 21, 3]);
        assert_eq!(window.next_due(), Some(40));
    }

    #[test]
    fn queues_take_turns() {
        let mut window = window(&[(1, "a", 1), (1, "a", 2), (1, "a", 3), (2, "b", 10), (2, "b", 11)]);
        assert_eq!(all(&mut window, 5), [1, 10, 2, 11, 3]);
        assert!(window.turns.is_empty() && window.due.is_empty());
    }

    #[test]
    fn what_is_given_back_is_not_due() {
        let mut window = window(&[(1, "a", 1), (9, "a", 2), (9, "b", 3)]);
        assert_eq!(window.take(1), Some(1));
        assert_eq!(window.take_back(|item| *item == 3), [3]);
        assert_eq!(all(&mut window, 9), [2]);
    }
}
