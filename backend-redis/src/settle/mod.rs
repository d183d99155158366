//! Receipts, verdicts and extensions.

pub(crate) mod batch;
pub(crate) mod receipt;
pub(crate) mod settlers;
pub(crate) mod verdicts;
