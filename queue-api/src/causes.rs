//! An error with what caused it, as one text.

use std::error::Error as StdError;

use crate::permanent::is_bare_mark;

/// The error and its causes in one line, each said once.
pub(crate) fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    for cause in causes.filter(|&cause| !is_bare_mark(cause)) {
        let cause = cause.to_string();
        if !says(&text, &cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whether `text` says `words`, and not only something that they are a part of.
fn says(text: &str, words: &str) -> bool {
    let ends_word = |side: Option<char>| !side.is_some_and(char::is_alphanumeric);
    words.is_empty()
        || text.match_indices(words).any(|(at, _)| {
            ends_word(text[..at].chars().next_back()) && ends_word(text[at + words.len()..].chars().next())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Caused {
        text: &'static str,
        source: Option<Box<Caused>>,
    }

    fn said(texts: &[&'static str]) -> String {
        let chain = texts.iter().rev().fold(None, |source, text| Some(Box::new(Caused { text, source })));
        with_causes(&*chain.expect("a text"))
    }

    #[test]
    fn each_cause_is_said_once() {
        assert_eq!(said(&["mail server down"]), "mail server down");
        assert_eq!(said(&["cannot send", "connection reset"]), "cannot send: connection reset");
        assert_eq!(said(&["a: b: c", "b: c", "c"]), "a: b: c", "each shows its source");
        assert_eq!(said(&["a", "a", "b", "b"]), "a: b", "each shows only its source");
        assert_eq!(said(&["cannot send (reset), again", "reset", ""]), "cannot send (reset), again");
    }

    #[test]
    fn a_cause_that_is_a_part_of_a_word_is_said() {
        assert_eq!(said(&["job 12", "1"]), "job 12: 1");
        assert_eq!(said(&["unavailable", "available"]), "unavailable: available");
    }
}
