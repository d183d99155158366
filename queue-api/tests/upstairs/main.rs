//! A message from outside, and what stands above the contract, tested against a broker that does as a test says, and against the memory
//! broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod ext;
mod forward;
mod lazy;
mod logged;
mod message;
mod permanent;
mod pointers;
mod requester;
mod scripted;
mod scripted_health;
mod worker_blocking;
mod worker_failures;
mod worker_handlers;
mod worker_lease;
mod worker_memory;
mod worker_options;
mod worker_prefetch;
mod worker_queues;
mod worker_seed;
mod worker_settings;
mod worker_settle;
mod worker_stop;
mod worker_unknown;
mod worker_watch;
