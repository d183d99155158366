//! Where a message goes: to a queue, to the queues of a topic, to an inbox; bounds and dedup keys.

pub(crate) mod backpressure;
pub(crate) mod dedup;
pub(crate) mod fan_out;
pub(crate) mod topic;
