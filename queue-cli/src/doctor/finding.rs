//! What a check came to.

use serde::Serialize;

/// One check's answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) state: State,
    /// What was found.
    pub(super) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Good,
    Wrong,
    /// The right to ask is missing.
    Unknown,
}

impl Finding {
    pub(super) fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Good, found: found.into(), next: None }
    }

    pub(super) fn wrong(check: &'static str, found: impl Into<String>, next: &'static str) -> Self {
        Self { check, state: State::Wrong, found: found.into(), next: Some(next) }
    }

    /// It cannot be known, for this reason.
    pub(super) fn unseen(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, state: State::Unknown, found: why.into(), next: None }
    }

    /// Without the HTTP API it cannot be known.
    pub(super) fn not_asked(check: &'static str) -> Self {
        Self::unseen(check, "not seen, give --management http://USER:PASSWORD@HOST:15672")
    }

    pub(super) fn unknown(check: &'static str, why: &str) -> Self {
        Self {
            check,
            state: State::Unknown,
            found: why.into(),
            next: Some("allow this user the commands INFO, TIME and CONFIG|GET to have it checked"),
        }
    }
}
