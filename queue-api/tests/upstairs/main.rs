//! A message from outside, and what stands above the contract, tested against a broker that does as a test says, and against the memory
//! broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod ext;
mod forward;
mod message;
mod pointers;
mod permanent;
mod requester;
mod scripted;
mod worker_failures;
mod worker_handlers;
mod worker_lease;
mod worker_memory;
mod worker_settle;
mod worker_stop;
