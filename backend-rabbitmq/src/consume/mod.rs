//! Reading one queue: pending receives, the task that owns the channel, what is done with each delivery, leases.

pub(crate) mod arrivals;
pub(crate) mod boots;
pub(crate) mod buffer;
pub(crate) mod channel_loop;
pub(crate) mod consumer;
pub(crate) mod phase;
pub(crate) mod source;
pub(crate) mod state;
pub(crate) mod sweep;
pub(crate) mod task;
pub(crate) mod triage;
