//! Answers of the backend, as the model takes them: an error where none may be is a finding.

use polyqueue::{Error, Result};

/// The answer, or a finding that says what failed.
pub(super) fn good<T>(what: &str, answer: Result<T>) -> Result<T, String> {
    answer.map_err(|error| format!("{what} failed: {error}"))
}

/// As many answers as questions, or a finding.
pub(super) fn all<T>(what: &str, asked: usize, answers: Result<Vec<T>>) -> Result<Vec<T>, String> {
    let answers = good(what, answers)?;
    match answers.len() {
        answered if answered == asked => Ok(answers),
        answered => Err(format!("{what} of {asked} answered {answered}")),
    }
}

/// The one answer to one question.
pub(super) fn one<T>(what: &str, answers: Result<Vec<Result<T>>>) -> Result<T, String> {
    match all(what, 1, answers)?.pop() {
        Some(answer) => good(what, answer),
        None => Err(format!("{what} answered nothing")),
    }
}

/// The item that is refused must be refused as invalid, and named where it can be.
pub(super) fn invalid<T>(what: &str, answer: &Result<T>) -> Result<Option<usize>, String> {
    match answer {
        Err(Error::Invalid { index, .. }) => Ok(*index),
        Err(error) => Err(format!("{what} answered {error}, not invalid")),
        Ok(_) => Err(format!("{what} was taken")),
    }
}
