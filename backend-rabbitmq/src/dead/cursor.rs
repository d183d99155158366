//! Where a listing goes on.

use crate::wire::dead::is_unmarked;
use polyqueue::{Cursor, DeadLetter, Error, Result};

/// By how much times of death may run against the order in the queue: letters are written by many, each by its own clock, and a
/// letter is dated before it is stored.
const DISORDER_MS: i64 = 5_000;

/// Where a listing goes on: after this letter, or, should it be gone, where it lay.
pub(crate) struct ListingCursor {
    /// How many letters lay up to it, it included.
    pub(crate) before: u64,
    /// How many letters were behind it when the listing began: those that died since are not a part of it.
    pub(crate) behind: u64,
    /// When the listing began, in Unix milliseconds by the clock of who lists.
    pub(crate) began_ms: i64,
    died_ms: i64,
    id: String,
}

impl ListingCursor {
    pub(crate) fn read(cursor: &Cursor) -> Result<Self> {
        let mut parts = cursor.as_str().splitn(5, ':');
        let mut part = || parts.next();
        let place = (|| {
            let (before, behind) = (part()?.parse().ok()?, part()?.parse().ok()?);
            let (began_ms, died_ms) = (part()?.parse().ok()?, part()?.parse().ok()?);
            Some(Self { before, behind, began_ms, died_ms, id: part()?.to_owned() })
        })();
        place.ok_or_else(|| Error::invalid("cursor", "allowed is what a page of dead letters brought"))
    }

    pub(crate) fn of(letter: &DeadLetter, before: u64, behind: u64, began_ms: i64) -> Cursor {
        let died = letter.died_at.timestamp_millis();
        Cursor::new(format!("{before}:{behind}:{began_ms}:{died}:{}", letter.id))
    }

    /// Whether it is this letter: `nth` of those that are there, from 0. Of letters that are not told apart it is the one in its
    /// place.
    pub(crate) fn is(&self, nth: u64, letter: &DeadLetter) -> bool {
        letter.id.as_str() == self.id && (nth + 1 >= self.before || !is_unmarked(&letter.id))
    }

    /// Whether a letter is still to be shown though the cursor's own is gone: `nth` of those that are there, from 0. Letters before
    /// the cursor may be gone, too, so what lies farther in front than it did is judged by its time; rather shown twice than not.
    pub(crate) fn is_before(&self, nth: u64, letter: &DeadLetter) -> bool {
        let died = letter.died_at.timestamp_millis();
        died <= self.began_ms.saturating_add(DISORDER_MS)
            && (nth >= self.before || died.saturating_add(DISORDER_MS) >= self.died_ms)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use polyqueue::{DeadBody, DeadId, DeadReason, QueueName};

    fn letter(id: &str, died_ms: i64) -> DeadLetter {
        let (body, died) = (DeadBody::Raw("".into()), DateTime::from_timestamp_millis(died_ms).unwrap());
        DeadLetter::new(DeadId::new(id), QueueName::from_static("q"), body, DeadReason::Rejected, died)
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let place = ListingCursor::read(&ListingCursor::of(&letter("a:b", 7), 3, 5, 9)).unwrap();
        assert_eq!(
            (place.before, place.behind, place.began_ms, place.died_ms, &*place.id),
            (3, 5, 9, 7, "a:b")
        );
        assert!(place.is(0, &letter("a:b", 8)) && !place.is(2, &letter("a", 7)));
        for foreign in ["", "7:a", "1:x:7:9:a", "1:-1:7:9:a"] {
            assert!(
                matches!(ListingCursor::read(&Cursor::new(foreign)), Err(Error::Invalid { .. })),
                "{foreign}"
            );
        }
    }

    #[test]
    fn of_letters_that_are_not_told_apart_it_is_the_one_in_its_place() {
        let place = ListingCursor::read(&ListingCursor::of(&letter("unmarked-1", 0), 3, 5, 9)).unwrap();
        let is = |nth| place.is(nth, &letter("unmarked-1", 0));
        assert!(!is(0) && !is(1) && is(2) && is(3));
    }

    #[test]
    fn where_its_letter_is_gone_whatever_may_lie_behind_it_is_shown_and_nothing_that_died_since() {
        let place = ListingCursor::read(&ListingCursor::of(&letter("c", 20_000), 3, 5, 30_000)).unwrap();
        assert!(place.is_before(0, &letter("later", 20_001)));
        assert!(place.is_before(0, &letter("dated before, stored after", 15_000)));
        assert!(!place.is_before(2, &letter("long before", 14_999)));
        assert!(place.is_before(3, &letter("behind it wherever its time", 1)));
        assert!(place.is_before(9, &letter("of that time", 35_000)));
        assert!(!place.is_before(9, &letter("died since", 35_001)));
    }
}
