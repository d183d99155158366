//! The in-memory backend of [`polyqueue`]: a broker inside the process, for tests, for development and for queues
//! that need not outlive their process.
//!
//! `memory://NAME?max_bytes=…`: handles with one `NAME` in a process share a broker, which dies with its last open handle.
//! It holds at most `max_bytes` (1 GiB unless set), copies and replies counted; beyond that a publish answers a definite
//! [`Full`](polyqueue::Error::Full), as does a reply to an inbox that holds 10,000 unread ones. It knows only tokio's
//! clock: under a paused one it is deterministic. No task runs for a queue: what becomes due, ends or expires is applied by the
//! next call, at the time at which it happened, and whoever waits for a message or for room keeps the time meanwhile.
//!
//! | module | holds |
//! |---|---|
//! | `line` | one queue's data and rules, pure and synchronous |
//! | `cell`, `desk` | the lock around it, the wakers of those who wait, and who counts |
//! | `routes` | the queues of a namespace, and which of them a topic reaches |
//! | `receive` | one receive under way: it may wait for messages |
//! | `publish`, `store` | one publish under way: it may wait for room, and stores in every queue or in none |
//! | `inbox`, `mailbox` | replies, and who reads them |
//! | `queue`, `consumer` | the contract's verbs |
//! | `broker`, `handle`, `address` | who shares what |

mod address;
mod broker;
mod budget;
mod cell;
mod clock;
mod consumer;
mod desk;
mod handle;
mod inbox;
mod line;
mod mailbox;
#[cfg(not(polyqueue_mutants))]
mod mutants;
#[cfg(polyqueue_mutants)]
#[doc(hidden)]
pub mod mutants;
mod publish;
mod queue;
mod receipt;
mod receive;
mod routes;
mod store;

use std::sync::Arc;

use polyqueue::{ConnectOptions, Connecting, Provider, Queue};

pub use queue::MemoryQueue;

/// Chosen by `memory` or by the scheme `memory://`; the URL stands in `MEMORY_URL`, `memory://default` unless set.
pub const PROVIDER: Provider =
    Provider::new("memory", &["memory"], "MEMORY_URL", "memory://default", connect);

fn connect(options: ConnectOptions) -> Connecting {
    Box::pin(async move { Ok(Arc::new(MemoryQueue::connect(&options)?) as Arc<dyn Queue>) })
}
