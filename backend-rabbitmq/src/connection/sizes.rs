//! Which sizes a broker takes: it says so only by closing the channel on which a larger message came.

use std::time::Duration;

use tokio::time::Instant;

/// No broker is told to take less.
const ANY: usize = 4 * 1024;
/// For how long a refusal is believed: an operator may raise the limit.
const BELIEVED: Duration = Duration::from_secs(60);

/// What one connection has shown.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    taken: usize,
    refused: Option<(usize, Instant)>,
}

/// What is known of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The broker took one as large.
    Taken,
    /// Nobody has tried.
    Untried,
    /// The broker takes no more than this many bytes.
    TooLarge(usize),
}

impl Sizes {
    pub(crate) fn of(&self, bytes: usize, now: Instant) -> Known {
        match self.refused {
            _ if bytes <= self.taken.max(ANY) => Known::Taken,
            Some((limit, since)) if bytes > limit && now < since + BELIEVED => Known::TooLarge(limit),
            _ => Known::Untried,
        }
    }

    pub(crate) fn took(&mut self, bytes: usize) {
        self.taken = self.taken.max(bytes);
    }

    /// Learns the limit from what the broker says of this refusal; answers it. `None` where it is about something else.
    pub(crate) fn refused(&mut self, bytes: usize, said: &str, now: Instant) -> Option<usize> {
        let (_, after) = said.split_once("larger than")?;
        let number = after.split(|it: char| !it.is_ascii_digit()).find(|part| !part.is_empty());
        let limit = number.and_then(|digits| digits.parse().ok()).unwrap_or(bytes - 1).min(bytes - 1);
        self.taken = self.taken.min(limit);
        self.refused = Some((limit, now));
        Some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str =
        "PRECONDITION_FAILED - message size 2000000 is larger than configured max size 1000000";

    #[test]
    fn a_size_is_tried_once_and_then_known() {
        let (mut sizes, now) = (Sizes::default(), Instant::now());
        assert_eq!(sizes.of(ANY, now), Known::Taken);
        assert_eq!(sizes.of(500_000, now), Known::Untried);
        sizes.took(500_000);
        assert_eq!(sizes.of(500_000, now), Known::Taken);
        assert_eq!(sizes.of(500_001, now), Known::Untried);
    }

    #[test]
    fn a_limit_is_learned_from_its_refusal_and_believed_for_a_while() {
        let (mut sizes, now) = (Sizes::default(), Instant::now());
        assert_eq!(sizes.refused(2_000_000, SAID, now), Some(1_000_000));
        assert_eq!(sizes.of(1_000_001, now), Known::TooLarge(1_000_000));
        assert_eq!(sizes.of(1_000_000, now), Known::Untried);
        assert_eq!(sizes.of(2_000_000, now + BELIEVED), Known::Untried);
    }

    #[test]
    fn other_refusals_are_none_of_a_size() {
        let mut sizes = Sizes::default();
        assert_eq!(
            sizes.refused(9_000, "PRECONDITION_FAILED - unknown delivery tag 7", Instant::now()),
            None
        );
        assert_eq!(sizes.refused(9_000, "larger than we like", Instant::now()), Some(8_999));
    }
}
