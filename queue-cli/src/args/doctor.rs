//! What the doctor is told.

use std::time::Duration;

use clap::Args;

use super::values::duration;

/// Of Redis it looks at the version, persistence, eviction, the clock, and entries that cannot be read; of RabbitMQ at the version and
/// at messages that found no queue, and with --management at alarms, policies and the consumer timeout. What cannot be seen is
/// "?" (unknown), which is not wrong. Exit codes: 0 nothing is wrong, 4 something is, or the broker cannot be reached, 1 doctor itself
/// failed.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// RabbitMQ's HTTP API, of its management plugin; the user needs the tag monitoring.
    #[arg(long, value_name = "http://USER:PASSWORD@HOST:PORT")]
    pub(crate) management: Option<String>,
    /// The longest lease that is used, which the broker's consumer timeout must not undercut.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) lease: Duration,
    /// Holds a message of its own in RabbitMQ for as long as a lease lasts, and a minute more, in which the broker looks: the only way
    /// to know how long the node lets a message be held.
    #[arg(long)]
    pub(crate) hold: bool,
}
