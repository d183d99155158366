//! How a message leaves: receipts, verdicts, what is published in its place, acks.

pub(crate) mod acks;
pub(crate) mod fetched;
pub(crate) mod job;
pub(crate) mod receipt;
pub(crate) mod replacement;
pub(crate) mod republish;
pub(crate) mod unacked;
