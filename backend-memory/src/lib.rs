//! The in-memory backend of [`polyqueue`]: a broker inside the process, for tests, for development and for queues
//! that need not outlive their process.
//!
//! `memory://NAME?max_bytes=…`: handles with one `NAME` in a process share a broker, which dies with its last open handle.
//! It holds at most `max_bytes` (1 GiB unless set), copies and replies counted; beyond that a publish answers a definite
//! [`Full`](polyqueue::Error::Full), as does a reply to an inbox that holds 10,000 unread ones. It knows only tokio's
//! clock: under a paused one it is deterministic. No task runs for a queue: what becomes due, ends or expires is applied by the
//! next call, at the time at which it happened, and whoever waits for a message or for room keeps the time meanwhile.
//!
//! One message's walk through the rooms:
//!
//! | it is | in |
//! |---|---|
//! | published | `publish/dispatch` → `publish/pending` → `publish/fan_out` → `broker/state/publish` |
//! | delayed | `broker/state/queue_state`, until `broker/state/due` |
//! | handed out | `consume/receive` → `broker/state/consume` |
//! | retried | `settle/verdicts` → `broker/state/settle` |
//! | dead | `broker/state/dead` |
//! | redriven | `broker/state/redrive` |

mod address;
mod broker;
mod connection;
mod consume;
mod inbox;
#[cfg(not(polyqueue_mutants))]
mod mutants;
#[cfg(polyqueue_mutants)]
#[doc(hidden)]
pub mod mutants;
mod publish;
mod queue;
mod settle;
mod topology;

use std::sync::Arc;

use polyqueue::{ConnectOptions, Connecting, Provider, Queue};

use address::{DEFAULT_URL, NAME};
pub use queue::MemoryQueue;

/// Chosen by `memory` or by the scheme `memory://`; the URL stands in `MEMORY_URL`, `memory://default` unless set.
pub const PROVIDER: Provider = Provider::new(NAME, &[NAME], "MEMORY_URL", DEFAULT_URL, connect);

fn connect(options: ConnectOptions) -> Connecting {
    Box::pin(async move { Ok(Arc::new(MemoryQueue::connect(&options)?) as Arc<dyn Queue>) })
}
