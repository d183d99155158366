//! Receipts, verdicts and extensions.

pub(crate) mod receipt;
pub(crate) mod verdicts;
