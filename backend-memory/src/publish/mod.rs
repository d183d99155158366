//! Where a message goes, and what happens to it where there is no room.

#![allow(clippy::vec_box, reason = "a message moves from place to place by its pointer")]

pub(crate) mod dispatch;
mod fan_out;
mod pending;
mod single;
