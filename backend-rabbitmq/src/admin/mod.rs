//! Counts, purges, health.

pub(crate) mod purge;
