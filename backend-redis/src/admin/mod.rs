//! Counting, purging, rescheduling, health.

pub(crate) mod diagnosis;
pub(crate) mod health;
pub(crate) mod purge;
pub(crate) mod reschedule;
pub(crate) mod stats;
mod unreadable;
