//! Answers that every backend words alike.

use std::fmt;

use crate::{Error, Result};

/// The outcome of a batch that had one destination: when it was not there for any message, that is the answer.
///
/// # Errors
/// [`Error::NotFound`] when nothing else was answered.
pub fn not_found_if_all<T>(mut answers: Vec<Result<T>>) -> Result<Vec<Result<T>>> {
    let is_missing = |answer: &Result<T>| matches!(answer, Err(Error::NotFound(_)));
    match answers.iter().all(is_missing).then(|| answers.pop()).flatten() {
        Some(Err(error)) => Err(error),
        _ => Ok(answers),
    }
}

/// The refusal of a dedup key that is sent where none is kept: `place` names where, such as `queue mail`.
pub fn no_dedup_keys(place: impl fmt::Display) -> Error {
    let allowed = format!("given, but {place} keeps no keys: declare the queue with QueueSpec::dedup");
    Error::invalid("dedup key", allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueueName;

    fn missing<T>() -> Result<T> {
        Err(Error::not_found(QueueName::from_static("mail")))
    }

    #[test]
    fn only_what_nobody_found_is_not_found() {
        assert!(matches!(not_found_if_all::<()>(vec![missing(), missing()]), Err(Error::NotFound(_))));
        assert_eq!(not_found_if_all(vec![missing(), Ok(1)]).unwrap().len(), 2);
        assert_eq!(not_found_if_all::<()>(vec![Err(Error::Closed)]).unwrap().len(), 1);
        assert!(not_found_if_all::<()>(Vec::new()).unwrap().is_empty());
    }

    #[test]
    fn a_refused_key_says_where_and_what_to_do() {
        let error = no_dedup_keys("queue mail").at(3).to_string();
        let says = "invalid dedup key of message 3: given, but queue mail keeps no keys: declare the queue with \
                    QueueSpec::dedup";
        assert_eq!(error, says);
    }
}
