//! The reference model: a queue so simple that it is plainly right, against which random programs are compared.
//!
//! The model is a list of messages, each in one place, and is looked through from end to end at every call. It
//! does not answer calls, it judges answers: where the contract leaves a choice, or where a clock that is not ours decides,
//! several answers are right, and the model goes on from the one that was given. In virtual time nothing is left to the
//! clock, so that nearly every answer is the only right one.
//!
//! A program is made from a seed, driven against a queue and the model at once, and made
//! shorter when it fails. What programs must have tried is counted: a generator that never reaches a
//! rule proves nothing about it. What the model cannot see, because its one client makes one call after the other, a
//! crowd shows to the judges of histories; how both are tried themselves is in [`drill`].

mod answers;
mod bench;
mod coverage;
mod crowd;
mod dead;
pub mod drill;
mod drive;
mod extend;
mod message;
mod order;
mod program;
mod publish;
mod purge;
mod receive;
mod reschedule;
mod settle;
mod shrink;
mod standing;
mod state;
mod stats;
mod suite;
mod time;

pub(crate) use suite::{in_real_time, in_virtual_time};
