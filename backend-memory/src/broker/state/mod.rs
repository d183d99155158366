//! One queue's data and rules, pure and synchronous: what is ready, delayed, leased or dead.
//!
//! Nothing here waits, wakes or reads a clock. Every call is preceded by [`due::advance`], which applies what has become due,
//! and followed by [`due::effects`], which says whom to wake. A call that finds much to do does as much as there are
//! [`steps`] for, and is called again. Between calls no receive waits while something that it may have is ready, unless the
//! queue is not caught up. The containers come first, then [`queue_state`], which has one of each, then what happens to it.

#![allow(clippy::vec_box, reason = "a message moves from place to place by its pointer")]

pub(crate) mod ids;
pub(crate) mod stored;

mod blocked;
mod consumers;
pub(crate) mod dead_letters;
mod dedup_keys;
mod delayed;
mod expiry;
mod in_flight;
pub(crate) mod pending;
mod ready;
pub(crate) mod removed;
mod steps;

pub(crate) mod queue_state;

mod dead;

pub(crate) mod admin;
pub(crate) mod consume;
pub(crate) mod due;
pub(crate) mod publish;
pub(crate) mod redrive;
pub(crate) mod reschedule;
pub(crate) mod settle;

#[cfg(test)]
mod tests;
