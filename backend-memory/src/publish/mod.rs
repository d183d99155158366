//! Where a message goes, and what happens to it where there is no room.

pub(crate) mod dispatch;
mod fan_out;
mod pending;
