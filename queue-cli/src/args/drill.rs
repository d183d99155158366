//! What can be said to `polyqueue drill`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::duration;

/// Starts a private broker, unless --url names one: on that, everything happens in a namespace of its own, which is deleted
/// afterwards, and only to connections of the drill. Memory is a simulated broker in simulated time: minutes take moments.
/// Ends with 4 when a promise was broken. Ctrl-C ends it early, with the report of what was.
#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// Which broker; that of --url when it is given.
    #[arg(long, value_enum)]
    pub(crate) backend: Option<Backend>,
    /// For how long messages are published. Faults come in cycles of 20s, or one shorter cycle.
    #[arg(long = "for", default_value = "1m", value_parser = duration, value_name = "TIME")]
    pub(crate) lasts: Duration,
    /// What decides each fault and each message; a new one when not given.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// One kind of fault: cuts after a random number of bytes, or kills of clients, which are processes where the broker can be
    /// shared.
    #[arg(long, value_enum)]
    pub(crate) only: Option<Only>,
    /// How many clients publish.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) producers: u8,
    /// How many clients consume, two a queue.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) consumers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Memory,
    Redis,
    Rabbitmq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    Cuts,
    Kills,
}
