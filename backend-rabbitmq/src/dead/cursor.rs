//! Where a listing goes on.

use polyqueue::{Cursor, DeadLetter, Error, Result};

/// Where a listing goes on: after this letter, or, should it be gone, after its time of death.
pub(crate) struct ListingCursor {
    died_ms: i64,
    id: String,
}

impl ListingCursor {
    pub(crate) fn read(cursor: &Cursor) -> Result<Self> {
        let place = cursor
            .as_str()
            .split_once(':')
            .and_then(|(died, id)| Some(Self { died_ms: died.parse().ok()?, id: id.to_owned() }));
        place.ok_or_else(|| Error::invalid("cursor", "allowed is what a page of dead letters brought"))
    }

    pub(crate) fn of(letter: &DeadLetter) -> Cursor {
        Cursor::new(format!("{}:{}", letter.died_at.timestamp_millis(), letter.id))
    }

    pub(crate) fn is(&self, letter: &DeadLetter) -> bool {
        letter.id.as_str() == self.id
    }

    pub(crate) fn is_before(&self, letter: &DeadLetter) -> bool {
        (self.died_ms, self.id.as_str()) < (letter.died_at.timestamp_millis(), letter.id.as_str())
    }
}
