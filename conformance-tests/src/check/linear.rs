//! Linearizability of short histories: whether one queue, asked one call after the other, could have answered so, in an order that
//! agrees with which call ended before which began. A search after Wing and Gong, with Lowe's memory of what was tried.

use std::collections::HashSet;
use std::fmt;

/// A call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Counts up over all beginnings and ends.
    pub(crate) began: u64,
    /// The same.
    pub(crate) ended: u64,
    /// Which call, with its answer.
    pub(crate) call: Call,
}

/// A message: its priority, higher first, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Item {
    /// Higher goes first.
    pub(crate) priority: u8,
    /// Names it.
    pub(crate) number: u32,
}

/// What a client did, with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// It was stored.
    Publish(Item),
    /// What came, of one that does not wait.
    Receive(Option<u32>),
    /// It is ready again, anywhere among its equals.
    Release(Item),
    /// It is at its end.
    Ack(u32),
}

/// The most operations of one history.
pub(crate) const MOST: usize = 64;

/// What is ready, the next first.
type Ready = Vec<Item>;

/// Whether there is an order in which a queue answers so.
///
/// # Panics
/// With more than [`MOST`] operations.
pub(crate) fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() <= MOST, "{} operations are more than {MOST}", history.len());
    let mut tried = HashSet::new();
    let mut open = vec![(0_u64, Ready::new())];
    while let Some((done, ready)) = open.pop() {
        if done.count_ones() as usize == history.len() {
            return true;
        }
        for (at, operation) in may_be_next(history, done) {
            for after in answers(&ready, operation.call) {
                let state = (done | 1 << at, after);
                if tried.insert(state.clone()) {
                    open.push(state);
                }
            }
        }
    }
    false
}

/// Those that began before any other that is left ended.
fn may_be_next(history: &[Operation], done: u64) -> impl Iterator<Item = (usize, &Operation)> {
    let left = move || history.iter().enumerate().filter(move |(at, _)| done & 1 << at == 0);
    let first_end = left().map(|(_, operation)| operation.ended).min().unwrap_or(u64::MAX);
    left().filter(move |(_, operation)| operation.began < first_end)
}

/// What may be ready after this call, if it can be answered so.
fn answers(ready: &Ready, call: Call) -> Vec<Ready> {
    match call {
        Call::Publish(item) => vec![with(ready, item, equals(ready, item).1)],
        Call::Release(item) => {
            let (first, last) = equals(ready, item);
            (first..=last).map(|place| with(ready, item, place)).collect()
        }
        Call::Receive(Some(number)) if ready.first().is_some_and(|item| item.number == number) => {
            vec![ready[1..].to_vec()]
        }
        Call::Receive(None) if ready.is_empty() => vec![Ready::new()],
        Call::Receive(_) => Vec::new(),
        Call::Ack(number) if ready.iter().all(|item| item.number != number) => vec![ready.clone()],
        Call::Ack(_) => Vec::new(),
    }
}

/// Where its equals begin and end.
fn equals(ready: &Ready, item: Item) -> (usize, usize) {
    let before = |at: &Item| at.priority > item.priority;
    let not_after = |at: &Item| at.priority >= item.priority;
    (ready.partition_point(before), ready.partition_point(not_after))
}

fn with(ready: &Ready, item: Item, place: usize) -> Ready {
    let mut after = ready.clone();
    after.insert(place, item);
    after
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}–{:<3} {:?}", self.began, self.ended, self.call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: u8 = 1;
    const HIGH: u8 = 9;

    fn item(priority: u8, number: u32) -> Item {
        Item { priority, number }
    }

    /// Each begins after the one before has ended.
    fn in_order(calls: &[Call]) -> Vec<Operation> {
        let at = |(nth, call): (usize, &Call)| Operation {
            began: 2 * nth as u64,
            ended: 2 * nth as u64 + 1,
            call: *call,
        };
        calls.iter().enumerate().map(at).collect()
    }

    #[test]
    fn one_after_the_other_there_is_one_answer() {
        let (a, b) = (Call::Publish(item(LOW, 1)), Call::Publish(item(LOW, 2)));
        let came = |number| Call::Receive(Some(number));
        assert!(is_linearizable(&in_order(&[a, b, came(1), came(2), Call::Receive(None)])));
        assert!(!is_linearizable(&in_order(&[a, b, came(2)])), "out of order");
        assert!(!is_linearizable(&in_order(&[a, Call::Receive(None)])), "not seen");
        assert!(!is_linearizable(&in_order(&[a, came(1), came(1)])), "twice");
        assert!(!is_linearizable(&in_order(&[a, Call::Publish(item(HIGH, 2)), came(1)])), "priority");
        assert!(!is_linearizable(&in_order(&[a, Call::Ack(1)])), "acked and still ready");
    }

    #[test]
    fn who_overlaps_may_be_first_or_last() {
        let overlapping = |mut history: Vec<Operation>| {
            history.iter_mut().for_each(|operation| operation.began = 0);
            history
        };
        let (a, b) = (Call::Publish(item(LOW, 1)), Call::Publish(item(LOW, 2)));
        let history = in_order(&[a, b, Call::Receive(Some(2))]);
        assert!(is_linearizable(&overlapping(history)));
        let never = in_order(&[a, Call::Receive(Some(3))]);
        assert!(!is_linearizable(&overlapping(never)), "never published");
    }

    #[test]
    fn what_is_released_enters_anywhere_among_its_equals() {
        let start = [Call::Publish(item(LOW, 1)), Call::Publish(item(LOW, 2)), Call::Receive(Some(1))];
        let again = [Call::Release(item(LOW, 1))];
        for first in [1, 2] {
            let calls = [&start[..], &again, &[Call::Receive(Some(first))]].concat();
            assert!(is_linearizable(&in_order(&calls)), "{first} first");
        }
    }
}
