//! The in-memory backend of [`polyqueue`]: a broker inside the process, for tests, for development and for queues
//! that need not outlive their process.
//!
//! `memory://NAME?max_bytes=…`: handles with one `NAME` in a process share a broker, which dies with its last open handle.
//! It holds at most `max_bytes` (1 GiB unless set), copies and replies counted; beyond that a publish answers a definite
//! [`Full`](polyqueue::Error::Full), as does a reply to an inbox that holds 10,000 unread ones. It knows only tokio's
//! clock: under a paused one it is deterministic. No task runs for a queue: what becomes due, ends or expires is applied by the
//! next call, at the time at which it happened, and whoever waits for a message or for room keeps the time meanwhile.
//!
//! However much there is to do at once, a million messages that come due or a purge of as many, no queue is locked for more
//! than some hundred messages: others get in between, and a receive, which brings 400 messages at most, answers when all that
//! is due is applied. A message to a topic is stored in all its queues or in none; where more than 32 queues are bound,
//! those that can refuse it get it together, and the others one after the other.
//!
//! What real brokers and networks do to their clients can be had here, too: a [`MemoryBroker`] that is killed, paused, wiped, out of
//! memory, and [links](SimulatedLink) to it that are cut, slowed and silenced, on tokio's clock.
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
mod simulation;
mod topology;

use std::sync::Arc;

use polyqueue::{ConnectOptions, Connecting, Provider, Queue};

use address::{DEFAULT_URL, NAME};
pub use queue::MemoryQueue;
pub use simulation::broker::MemoryBroker;
pub use simulation::line::Direction;
pub use simulation::link::SimulatedLink;

/// Chosen by `memory` or by the scheme `memory://`; the URL stands in `MEMORY_URL`, `memory://default` unless set.
pub const PROVIDER: Provider = Provider::new(NAME, &[NAME], "MEMORY_URL", DEFAULT_URL, connect);

fn connect(options: ConnectOptions) -> Connecting {
    Box::pin(async move { Ok(Arc::new(MemoryQueue::connect(&options)?) as Arc<dyn Queue>) })
}
