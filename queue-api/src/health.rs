//! Whether a broker can be reached.

use serde::Serialize;

/// Whether a broker can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether calls can be expected to succeed.
    pub healthy: bool,
    /// The backend.
    pub provider: &'static str,
    /// What is wrong and where, without secrets; empty when nothing is.
    pub detail: String,
}

impl Health {
    /// All is well.
    pub fn good(provider: &'static str) -> Self {
        Self { healthy: true, provider, detail: String::new() }
    }

    /// Something is wrong.
    pub fn bad(provider: &'static str, detail: impl Into<String>) -> Self {
        Self { healthy: false, provider, detail: detail.into() }
    }
}
