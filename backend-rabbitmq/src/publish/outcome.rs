//! What became of one message of which several copies were published.

use polyqueue::{Certainty, Destination, Error, Message, MessageId, Published, Result};

use crate::address::NAME;

/// What became of a copy.
pub(crate) enum Outcome {
    Stored,
    Duplicate(MessageId),
    Gone,
    Failed(Error),
}

/// What became of a message by what became of its copies.
pub(crate) fn summed(to: &Destination, message: &Message, outcomes: Vec<Outcome>) -> Result<Published> {
    let (mut stored, mut first, mut failed) = (false, None, None);
    for outcome in outcomes {
        match outcome {
            Outcome::Stored => stored = true,
            Outcome::Duplicate(id) => first = first.or(Some(id)),
            Outcome::Gone => {}
            Outcome::Failed(error) => failed = failed.or(Some(error)),
        }
    }
    match (failed, first) {
        (Some(error), _) if stored => Err(unknown(error)),
        (Some(error), _) => Err(error),
        (None, _) if stored => Ok(Published::stored(message.id().clone())),
        (None, Some(first)) => Ok(Published::duplicate(message.id().clone(), first)),
        (None, None) => Err(Error::not_found(to.clone())),
    }
}

/// The same error, where some copies are stored and others are not.
fn unknown(error: Error) -> Error {
    match error.certainty() {
        Certainty::Unknown => error,
        Certainty::Definite => Error::unavailable(NAME, Certainty::Unknown, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::RoutingKey;

    fn sum(outcomes: Vec<Outcome>) -> Result<Published> {
        let to = RoutingKey::new("t").unwrap().into();
        summed(&to, &Message::new("").with_id(MessageId::new("own").unwrap()), outcomes)
    }

    fn duplicate() -> Outcome {
        Outcome::Duplicate(MessageId::new("first").unwrap())
    }

    #[test]
    fn a_message_is_a_duplicate_only_where_all_queues_had_it() {
        assert_eq!(sum(vec![duplicate(), Outcome::Stored]).unwrap().duplicate_of, None);
        let all = sum(vec![duplicate(), Outcome::Gone]).unwrap();
        assert_eq!(all.duplicate_of.unwrap().as_str(), "first");
        assert!(matches!(sum(vec![Outcome::Gone]), Err(Error::NotFound(_))));
    }

    #[test]
    fn what_is_stored_in_part_is_not_a_definite_failure() {
        let failed = || Outcome::Failed(Error::Closed);
        assert_eq!(sum(vec![failed(), Outcome::Stored]).unwrap_err().certainty(), Certainty::Unknown);
        assert_eq!(sum(vec![failed(), Outcome::Gone]).unwrap_err().certainty(), Certainty::Definite);
    }
}
