//! A text that is no name.

use std::borrow::Cow;

/// A text that cannot be a name, a key, a pattern or an address. `?` makes an [`Error::Invalid`](crate::Error::Invalid) of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {field}: {allowed}")]
pub struct Invalid {
    /// What it was to be.
    pub field: Cow<'static, str>,
    /// What was given and what is allowed.
    pub allowed: String,
}

impl Invalid {
    /// What is wrong with the text of `field`.
    pub fn new(field: impl Into<Cow<'static, str>>, allowed: impl Into<String>) -> Self {
        Self { field: field.into(), allowed: allowed.into() }
    }
}
