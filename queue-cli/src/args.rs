//! What can be typed.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use polyqueue::{Backoff, DeadFilter, DeadId, DeadReason, Priority, QueueName};

/// One message queue for memory, Redis and RabbitMQ.
///
/// MESSAGE_QUEUE_PROVIDER (memory, redis or rabbitmq; default memory) chooses the broker, MEMORY_URL, REDIS_URL or
/// RABBITMQ_URL says where it is, POLYQUEUE_NAMESPACE (default polyqueue) keeps applications apart.
/// Exit codes: 0 ok, 1 failed, 2 usage, 3 nothing there.
#[derive(Debug, Parser)]
#[command(name = "polyqueue", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// The broker, in place of MESSAGE_QUEUE_PROVIDER: memory://NAME, redis://HOST:PORT or amqp://USER:PASSWORD@HOST/VHOST.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// How to print what is found.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the queue can do, as a story of some seconds; needs no broker.
    Demo,
    /// Publish messages; prints one id a line.
    Publish(Publish),
    /// Print messages as they come, one JSON object a line.
    Consume(Consume),
    /// Run a command for each message, like xargs.
    Work(Work),
    /// How many messages are where.
    Stats {
        /// The queue; all of them when not given.
        queue: Option<QueueName>,
    },
    /// List, redrive or discard dead letters.
    #[command(subcommand)]
    Dead(Dead),
    /// Remove all messages that wait; those in flight and dead letters stay.
    Purge {
        /// The queue.
        queue: QueueName,
        /// Yes, remove them.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The queue; declared when it does not exist.
    pub(crate) queue: QueueName,
    /// The payload; - or nothing reads it from standard input.
    #[arg(conflicts_with = "ndjson")]
    pub(crate) body: Option<String>,
    #[command(flatten)]
    pub(crate) envelope: Envelope,
    /// Read one JSON object a line from standard input: text or base64, and optionally priority, delay, max_attempts, kind,
    /// headers. What a line does not say, the options say.
    #[arg(long, conflicts_with = "count")]
    pub(crate) ndjson: bool,
    /// Publish this many copies.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Envelope {
    /// 1 to 10, 10 first.
    #[arg(short, long, default_value = "5", value_parser = priority, value_name = "1..10")]
    pub(crate) priority: Priority,
    /// Hand it out this much later: 2s, 150ms, 1h 30m.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub(crate) delay: Duration,
    /// After how many attempts it dies; wins over what its reader says.
    #[arg(long)]
    pub(crate) max_attempts: Option<NonZeroU32>,
    /// What kind of message it is.
    #[arg(long, default_value = "")]
    pub(crate) kind: String,
    /// A header; may be given several times.
    #[arg(long = "header", value_parser = header, value_name = "KEY=VALUE")]
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// The queue; declared when it does not exist.
    pub(crate) queue: QueueName,
    /// End after this many messages.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max: Option<u64>,
    /// End when none came for this long.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) wait: Duration,
    /// How long a message is ours.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) lease: Duration,
    /// What becomes of a message after its line is printed; none leaves it to the end of its lease.
    #[arg(long, value_enum, default_value_t = SettleBy::Ack)]
    pub(crate) settle: SettleBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SettleBy {
    Ack,
    Retry,
    Reject,
    None,
}

/// The command gets the payload on standard input and the envelope in POLYQUEUE_ID, _QUEUE, _KIND, _PRIORITY, _ATTEMPT,
/// _MAX_ATTEMPTS, _PUBLISHED_AT and POLYQUEUE_HEADER_*. Exit 0 acks, 65 rejects to the dead letters, anything else retries
/// with the last line of standard error as the error text. SIGTERM stops gracefully.
#[derive(Debug, Args)]
pub(crate) struct Work {
    /// The queue; declared when it does not exist.
    pub(crate) queue: QueueName,
    /// The command, run by sh -c.
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: String,
    /// How many commands run at a time.
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: u16,
    /// After how many attempts a message dies, unless it says so itself.
    #[arg(long, default_value = "4")]
    pub(crate) max_attempts: NonZeroU32,
    /// The first wait between attempts and the longest; it doubles in between.
    #[arg(long, default_value = "1s..30s", value_parser = backoff, value_name = "FIRST..MAX")]
    pub(crate) backoff: Backoff,
    /// How long a message is ours without a sign of life; extended while its command runs.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) lease: Duration,
    /// End a command that runs longer; it counts as failed.
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// End after this many commands.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max: Option<u64>,
    /// End when the queue is empty, retries included.
    #[arg(long)]
    pub(crate) until_empty: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// Show dead letters, oldest first.
    List(Letters),
    /// Make dead letters ready again; all of them when neither ids nor filters are given.
    Redrive(Letters),
    /// Remove dead letters for good; all of them when neither ids nor filters are given, which wants --yes.
    Discard {
        #[command(flatten)]
        letters: Letters,
        /// Yes, remove all.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Letters {
    /// The queue.
    pub(crate) queue: QueueName,
    /// Ids of dead letters, as `dead list` shows them.
    #[arg(value_parser = dead_id, value_name = "ID")]
    pub(crate) ids: Vec<DeadId>,
    /// Only those that died for this reason: max_attempts, rejected or undecodable.
    #[arg(long)]
    pub(crate) reason: Option<DeadReason>,
    /// Only those whose error text contains this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) error: Option<String>,
    /// At most this many.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

impl Letters {
    pub(crate) fn filter(&self) -> DeadFilter {
        let mut filter = DeadFilter::all();
        filter.reason = self.reason;
        filter.error.clone_from(&self.error);
        filter
    }

    /// Whether nothing narrows the choice.
    pub(crate) fn means_all(&self) -> bool {
        self.ids.is_empty() && self.filter() == DeadFilter::all() && self.limit.is_none()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

fn dead_id(text: &str) -> Result<DeadId, String> {
    Ok(DeadId::new(text))
}

pub(crate) fn priority(text: &str) -> Result<Priority, String> {
    let level: i64 = text.parse().map_err(|_| format!("{text:?} is no number; allowed are 1 to 10"))?;
    Priority::new(level).map_err(|error| error.to_string())
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 2s, 150ms or 1h 30m"))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.into(), value.into()))
}

fn backoff(text: &str) -> Result<Backoff, String> {
    let (first, max) = text.split_once("..").ok_or("write FIRST..MAX, as 1s..30s")?;
    Backoff::new(duration(first)?, 2.0, duration(max)?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_values_say_what_is_allowed() {
        for (args, says) in [
            (vec!["publish", "q", "x", "-p", "11"], "1 to 10"),
            (vec!["publish", "q", "x", "-p", "zero"], "1 to 10"),
            (vec!["publish", "q", "x", "--delay=-1s"], "2s"),
            (vec!["publish", "q", "x", "--max-attempts", "0"], "max-attempts"),
            (vec!["publish", "", "x"], "1 to 200 bytes"),
            (vec!["work", "q", "--exec", "true", "--backoff", "9s..1s"], "backoff"),
            (vec!["dead", "list", "q", "--reason", "bored"], "max_attempts, rejected"),
        ] {
            let line = std::iter::once("polyqueue").chain(args.iter().copied());
            let error = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
