//! A consumer: receives wait, a task fetches for them.

pub(crate) mod claim;
pub(crate) mod consumer;
pub(crate) mod fetcher;
pub(crate) mod orphans;
pub(crate) mod pushed;
mod recovery;
mod registration;
mod schedule;
pub(crate) mod state;
