//! What can be typed about moving messages.

use std::time::Duration;

use clap::Args;
use polyqueue::QueueName;

use super::values::duration;

/// Each keeps its id and all it says; its attempts and its time to live begin anew. When the command is ended half-way, a message
/// may be in both queues, never in none: copies have the same id. What cannot be moved stays, and the command ends with 1.
#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The queue they come from.
    pub(crate) from: QueueName,
    /// The queue they go to; declared like FROM, without its bindings, when it does not exist.
    pub(crate) to: QueueName,
    /// End after this many messages.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max: Option<u64>,
    /// End when none came for this long.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) wait: Duration,
    /// How long a message is ours: what a killed command had comes back after it.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) lease: Duration,
}
