//! What can be typed.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use polyqueue::{Backoff, Pattern, QueueName, RoutingKey};

mod dead;
mod doctor;
#[cfg(feature = "drill")]
mod drill;
mod publish;
mod transfer;
pub(crate) mod values;

pub(crate) use dead::{Dead, Letters};
pub(crate) use doctor::Doctor;
#[cfg(feature = "drill")]
pub(crate) use drill::{Backend, Drill, Only};
pub(crate) use publish::{Envelope, Publish, Request};
pub(crate) use transfer::Move;
use values::{backoff, duration};

/// One message queue for memory, Redis and RabbitMQ.
///
/// MESSAGE_QUEUE_PROVIDER (memory, redis or rabbitmq; memory and a warning when it is not set) chooses the broker, MEMORY_URL,
/// REDIS_URL or RABBITMQ_URL says where it is, POLYQUEUE_NAMESPACE (default polyqueue) keeps applications apart.
/// Exit codes: 0 ok, 1 failed, 2 usage, 3 nothing there, 4 doctor or drill found something wrong, 141 the reader of the output has gone.
#[derive(Debug, Parser)]
#[command(name = "polyqueue", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// The broker, in place of MESSAGE_QUEUE_PROVIDER: memory://NAME, redis://HOST:PORT,
    /// redis+unix:///PATH/OF/SOCKET (also ?database=N&user=USER&password=PASSWORD) or amqp://USER:PASSWORD@HOST/VHOST.
    /// Encrypted: rediss://HOST:PORT?ca=FILE and amqps://USER:PASSWORD@HOST/VHOST?ca=FILE, also
    /// &cert=FILE&key=FILE&server_name=NAME.
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
    /// Send a request and print its replies, one JSON object a line.
    Request(Request),
    /// Print messages as they come, one JSON object a line.
    Consume(Consume),
    /// Move messages that wait to another queue, without loss: a message is acknowledged after the other queue has it.
    Move(Move),
    /// Run a command for each message, like xargs.
    Work(Work),
    /// How many messages are where.
    Stats {
        /// The queue; all of them when not given.
        queue: Option<QueueName>,
    },
    /// Look whether the broker is as it must be; ends with 4 when something is wrong.
    Doctor(Doctor),
    /// Do everything that can go wrong to a broker and its clients, at random, and report what became of each message.
    #[cfg(feature = "drill")]
    Drill(Drill),
    /// A client of a drill that is a process of its own.
    #[cfg(feature = "drill")]
    #[command(hide = true)]
    DrillClient,
    /// Print what happens to this command's own connections and to its namespace, a line each, until it is stopped.
    Events,
    /// List, redrive or discard dead letters.
    #[command(subcommand)]
    Dead(Dead),
    /// Let messages of matching topics reach a queue.
    Bind(Binding),
    /// Remove bindings.
    Unbind(Binding),
    /// Show queues with their bindings and settings.
    Topology {
        #[command(subcommand)]
        command: Option<Topology>,
    },
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
pub(crate) struct Binding {
    /// The queue; `bind` declares it when it does not exist.
    pub(crate) queue: QueueName,
    /// Words between dots; * stands for one word, # for any number.
    #[arg(required = true, value_name = "PATTERN")]
    pub(crate) patterns: Vec<Pattern>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    /// Which queues a message with this routing key would reach.
    Test {
        /// The routing key.
        routing_key: RoutingKey,
    },
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
/// _MAX_ATTEMPTS, _PUBLISHED_AT, _CORRELATION_ID and POLYQUEUE_HEADER_*. Exit 0 acks, 65 rejects to the dead letters, anything else retries
/// with the last line of standard error as the error text; that line is cut at 64 KiB. What cannot be run (126, 127, no shell, no
/// process) gives its message back without counting an attempt; five times in a row, with growing pauses, end it with exit code 1.
/// What the command leaves running is not waited for. SIGTERM stops gracefully.
#[derive(Debug, Args)]
pub(crate) struct Work {
    /// The queues; declared when they do not exist.
    #[arg(required = true, value_name = "QUEUE")]
    pub(crate) queues: Vec<QueueName>,
    /// The command, run by sh -c.
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: String,
    /// How many commands run at a time for each queue, so that a full one never starves another.
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
    /// End after this many commands, of all queues together.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max: Option<u64>,
    /// Answer requests with what their command prints.
    #[arg(long)]
    pub(crate) reply: bool,
    /// End when all queues are empty, retries included.
    #[arg(long)]
    pub(crate) until_empty: bool,
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
            (vec!["publish", "q", "x", "--ttl", "soon"], "2s"),
            (vec!["bind", "q"], "PATTERN"),
            (vec!["work", "--exec", "true"], "QUEUE"),
            (vec!["topology", "test", "a\nb"], "control character"),
            (vec!["work", "q", "--exec", "true", "--backoff", "9s..1s"], "backoff"),
            (vec!["dead", "list", "q", "--reason", "bored"], "max_attempts, rejected"),
        ] {
            let line = std::iter::once("polyqueue").chain(args.iter().copied());
            let error = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
