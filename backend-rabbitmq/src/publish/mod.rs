//! Where a message goes: to a queue, to the queues of a topic, to an inbox; bounds and dedup keys.

pub(crate) mod backpressure;
pub(crate) mod call_time;
pub(crate) mod dedup;
pub(crate) mod dispatch;
pub(crate) mod fan_out;
pub(crate) mod outcome;
pub(crate) mod reply;
pub(crate) mod requests;
pub(crate) mod state;
pub(crate) mod topic;
pub(crate) mod turns;
