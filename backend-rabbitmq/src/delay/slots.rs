//! The wheel: which slot a message waits in, and which slots hold what is due soon.
//!
//! Time is cut into cells, on each level sixteen times as wide as on the one below. A slot, a queue, holds every eighteenth cell of
//! its level: sixteen are ahead, and two are over, so that nothing that is due meets what is far away.

use crate::wire::delay::{slot_of_queue, slot_queue};

/// Seven levels reach past two years.
pub(crate) const LEVELS: usize = 7;
/// How many slots a level has.
pub(crate) const RING: i64 = 18;
/// How many cells ahead a message is put by who publishes it.
pub(crate) const FROM_OUTSIDE: i64 = 15;
/// The same by who moves it: what lies in a cell of one level fits the level below when the cell is read.
pub(crate) const FROM_ABOVE: i64 = 16;
/// How early the lowest cells are read.
const EARLY: i64 = 300;
/// How long a cell is read when it is over.
const LATE: i64 = 1_000;

/// A queue of the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) level: usize,
    pub(crate) index: i64,
}

impl Slot {
    /// The queue's name.
    pub(crate) fn queue(self) -> String {
        slot_queue(self.level, self.index)
    }

    /// Which slot a queue is.
    pub(crate) fn of_queue(queue: &str) -> Option<Self> {
        let (level, index) = slot_of_queue(queue)?;
        (level < LEVELS && (0..RING).contains(&index)).then_some(Self { level, index })
    }

    /// All of these levels.
    pub(crate) fn all(levels: std::ops::Range<usize>) -> impl Iterator<Item = Self> {
        levels.flat_map(|level| (0..RING).map(move |index| Self { level, index }))
    }
}

/// A stretch of time of one level, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) level: usize,
    number: i64,
}

/// How many milliseconds a cell lasts.
pub(crate) fn width(level: usize) -> i64 {
    1_000 << (4 * level)
}

impl Cell {
    /// Where a message waits that is due then: on the lowest level that reaches so far. What is over is due now, and what is beyond
    /// the highest level is looked at on the way.
    pub(crate) fn of(due: i64, now: i64, reach: i64) -> Self {
        let due = due.max(now);
        let top = LEVELS - 1;
        let level = (0..top).find(|level| due / width(*level) - now / width(*level) <= reach).unwrap_or(top);
        let number = (due / width(level)).min(now / width(level) + reach);
        Self { level, number }
    }

    /// The queue that it lies in.
    pub(crate) fn slot(self) -> Slot {
        Slot { level: self.level, index: self.number.rem_euclid(RING) }
    }
}

/// The cells that are read now. What lies on a higher level is put into the level below it one cell of that level ahead.
pub(crate) fn open(now: i64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for level in 0..LEVELS {
        let ahead = if level == 0 { EARLY } else { width(level - 1) };
        let (first, last) = ((now - LATE) / width(level), (now + ahead) / width(level));
        cells.extend((first..=last).map(|number| Cell { level, number }));
    }
    cells
}

/// A slot of the lowest level that is read no more, and in which nothing is put yet: what lies there was not moved.
pub(crate) fn recent(now: i64) -> Slot {
    Cell { level: 0, number: now / width(0) - 2 }.slot()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn a_message_waits_on_the_lowest_level_that_reaches_so_far() {
        let level = |secs: i64| Cell::of(NOW + secs * 1000, NOW, FROM_OUTSIDE).level;
        assert_eq!([0, 15, 17, 200, 300, 4_000, 70_000].map(level), [0, 0, 1, 1, 2, 2, 4]);
        assert_eq!(level(365 * 24 * 3600), 6);
    }

    #[test]
    fn what_is_over_is_due_now_and_what_is_too_far_goes_as_far_as_it_can() {
        assert_eq!(Cell::of(NOW - 60_000, NOW, FROM_OUTSIDE), Cell::of(NOW, NOW, FROM_OUTSIDE));
        let far = Cell::of(i64::MAX / 2, NOW, FROM_OUTSIDE);
        assert_eq!((far.level, far.number), (LEVELS - 1, NOW / width(LEVELS - 1) + FROM_OUTSIDE));
    }

    #[test]
    fn two_years_are_within_reach() {
        let due = NOW + 2 * 365 * 24 * 3_600_000;
        let cell = Cell::of(due, NOW, FROM_OUTSIDE);
        assert_eq!(cell.number, due / width(cell.level));
    }

    #[test]
    fn whatever_is_read_on_a_higher_level_fits_a_lower_one() {
        for level in 1..LEVELS {
            let (wide, below) = (width(level), width(level - 1));
            for (ahead, within) in [(below, 0), (below, wide - 1), (1, wide - 1), (0, 0), (0, wide - 1)] {
                let begin = (NOW / wide + 3) * wide;
                let cell = Cell::of(begin + within, begin - ahead, FROM_ABOVE);
                assert!(cell.level < level, "{level} {ahead} {within}: {cell:?}");
            }
        }
    }

    #[test]
    fn what_is_put_ahead_lies_in_no_slot_that_is_read_for_what_is_over() {
        for at in (0..40_000).step_by(37) {
            let now = NOW + at;
            let read: Vec<Cell> = open(now);
            for ahead in 0..300 {
                for reach in [FROM_OUTSIDE, FROM_ABOVE] {
                    let put = Cell::of(now + ahead * 1_000, now, reach);
                    let other = |cell: &&Cell| cell.slot() == put.slot() && **cell != put;
                    assert_eq!(read.iter().find(other), None, "{put:?} at {now}");
                }
            }
        }
    }

    #[test]
    fn a_cell_is_read_before_it_begins_until_after_it_is_over() {
        let cell = Cell::of(NOW, NOW, FROM_OUTSIDE);
        for (at, is_open) in [(-301, false), (-300, true), (0, true), (1_999, true), (2_000, false)] {
            assert_eq!(open(NOW + at).contains(&cell), is_open, "{at}");
        }
        let above = Cell { level: 1, number: NOW / width(1) };
        let begin = above.number * width(1);
        for (at, is_open) in [(-1_001, false), (-1_000, true), (16_999, true), (17_000, false)] {
            assert_eq!(open(begin + at).contains(&above), is_open, "{at}");
        }
    }

    #[test]
    fn a_slot_is_known_by_its_queue() {
        for slot in Slot::all(0..LEVELS) {
            assert_eq!(Slot::of_queue(&slot.queue()), Some(slot));
        }
        assert_eq!(Slot::of_queue("polyqueue.slot.7.0"), None);
        assert_eq!(Slot::of_queue("polyqueue.slot.0.18"), None);
    }
}
