//! Counts, purges, health.

pub(crate) mod delays;
pub(crate) mod diagnosis;
pub(crate) mod health;
pub(crate) mod hold;
pub(crate) mod purge;
pub(crate) mod remains;
pub(crate) mod stats;
