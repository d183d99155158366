//! Where a listing goes on.

use polyqueue::{Cursor, DeadLetter, Error, Result};

/// Where a listing goes on: after this letter, or, should it be gone, after its time of death.
pub(crate) struct ListingCursor {
    /// How many letters were behind it when the listing began: those that died since are not a part of it.
    pub(crate) behind: u64,
    died_ms: i64,
    id: String,
}

impl ListingCursor {
    pub(crate) fn read(cursor: &Cursor) -> Result<Self> {
        let mut parts = cursor.as_str().splitn(3, ':');
        let mut part = || parts.next();
        let place = (|| {
            let (behind, died_ms) = (part()?.parse().ok()?, part()?.parse().ok()?);
            Some(Self { behind, died_ms, id: part()?.to_owned() })
        })();
        place.ok_or_else(|| Error::invalid("cursor", "allowed is what a page of dead letters brought"))
    }

    pub(crate) fn of(letter: &DeadLetter, behind: u64) -> Cursor {
        Cursor::new(format!("{behind}:{}:{}", letter.died_at.timestamp_millis(), letter.id))
    }

    pub(crate) fn is(&self, letter: &DeadLetter) -> bool {
        letter.id.as_str() == self.id
    }

    pub(crate) fn is_before(&self, letter: &DeadLetter) -> bool {
        (self.died_ms, self.id.as_str()) < (letter.died_at.timestamp_millis(), letter.id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use polyqueue::{DeadBody, DeadId, DeadReason, QueueName};

    fn letter(id: &str, died_ms: i64) -> DeadLetter {
        let (body, died) = (DeadBody::Raw("".into()), DateTime::from_timestamp_millis(died_ms).unwrap());
        DeadLetter::new(DeadId::new(id), QueueName::from_static("q"), body, DeadReason::Rejected, died)
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let place = ListingCursor::read(&ListingCursor::of(&letter("a:b", 7), 5)).unwrap();
        assert_eq!((place.behind, place.died_ms, &*place.id), (5, 7, "a:b"));
        assert!(place.is(&letter("a:b", 8)) && !place.is(&letter("a", 7)));
        assert!(place.is_before(&letter("a:b", 8)) && place.is_before(&letter("b", 7)));
        assert!(!place.is_before(&letter("a:b", 7)) && !place.is_before(&letter("z", 6)));
        for foreign in ["", "7:a", "x:7:a", "-1:7:a"] {
            assert!(
                matches!(ListingCursor::read(&Cursor::new(foreign)), Err(Error::Invalid { .. })),
                "{foreign}"
            );
        }
    }
}
