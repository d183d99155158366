//! Where a message goes, and how many go together.

pub(crate) mod backpressure;
pub(crate) mod batch;
pub(crate) mod dispatch;
pub(crate) mod fan_out;
pub(crate) mod outcome;
pub(crate) mod publishers;
pub(crate) mod reply;
