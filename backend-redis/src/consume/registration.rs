//! Whether publishers may know a consumer as one that waits. The list is the server's: whoever finds the consumer there takes
//! it off, and the news of that comes later, by another connection.

/// What is known of a consumer's place on the server's list of those that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Registration {
    /// Not on it.
    #[default]
    Unlisted,
    /// On it, as far as is known.
    Listed,
    /// Taken off by somebody whose news may still be on its way.
    Popped,
    /// Taken off so, and on it again since.
    Relisted,
}

impl Registration {
    /// Whether it may be on the list.
    pub(crate) fn is_listed(self) -> bool {
        matches!(self, Self::Listed | Self::Relisted)
    }

    /// Whether it may be on the list, or news of having been found there on its way.
    pub(crate) fn is_open(self) -> bool {
        self != Self::Unlisted
    }

    /// A call that was to put it on the list has failed: nobody knows whether it did.
    pub(crate) fn maybe_listed(self) -> Self {
        self.with(true, self.is_unheard())
    }

    /// A call that takes it off the list, and puts it there again when it finds nothing, says what it did, and whether it still
    /// stood there before.
    pub(crate) fn claimed(self, listed: bool, stood: bool) -> Self {
        self.with(listed, self.is_unheard() || (self.is_listed() && !stood))
    }

    /// News came that somebody found it. Whether that was before or after it went there last is known only while no other news may
    /// be on its way.
    pub(crate) fn found(self) -> Self {
        self.with(self.is_listed() && self.is_unheard(), self.is_unheard())
    }

    /// It was taken off the list by itself; `stood` says whether it still was there.
    pub(crate) fn left(self, stood: bool) -> Self {
        self.claimed(false, stood)
    }

    fn is_unheard(self) -> bool {
        matches!(self, Self::Popped | Self::Relisted)
    }

    fn with(self, listed: bool, unheard: bool) -> Self {
        match (listed, unheard) {
            (false, false) => Self::Unlisted,
            (true, false) => Self::Listed,
            (false, true) => Self::Popped,
            (true, true) => Self::Relisted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Registration::{self, *};

    #[test]
    fn one_that_was_taken_off_before_it_left_has_news_to_come() {
        assert_eq!(Listed.left(true), Unlisted);
        assert_eq!(Listed.left(false), Popped);
        assert_eq!(Unlisted.left(false), Unlisted, "nobody can have found it");
        assert_eq!(Relisted.left(true), Popped, "the first news is still to come");
    }

    #[test]
    fn a_claim_that_finds_nothing_lists_it_again() {
        assert_eq!(Unlisted.claimed(true, false), Listed);
        assert_eq!(Listed.claimed(true, true), Listed);
        assert_eq!(Listed.claimed(true, false), Relisted);
        assert_eq!(Listed.claimed(false, false), Popped);
        assert_eq!(Popped.claimed(true, false), Relisted);
    }

    #[test]
    fn news_unlists_it_only_where_it_can_be_of_the_last_time() {
        assert_eq!(
            [Unlisted, Listed, Popped, Relisted].map(Registration::found),
            [Unlisted, Unlisted, Popped, Relisted]
        );
    }

    #[test]
    fn a_claim_that_failed_may_have_listed_it() {
        assert_eq!(
            [Unlisted, Listed, Popped, Relisted].map(Registration::maybe_listed),
            [Listed, Listed, Relisted, Relisted]
        );
    }
}
