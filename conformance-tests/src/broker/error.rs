//! Why a private broker cannot be had, or did not obey.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What the operations of this module return.
pub type Result<T, E = BrokerError> = std::result::Result<T, E>;

/// Why a private broker cannot be had, or did not obey.
#[derive(Debug)]
#[non_exhaustive]
pub enum BrokerError {
    /// The broker is not installed on this machine.
    Missing {
        /// The program that was looked for; also the name of its Debian package.
        program: &'static str,
    },
    /// The operation needs a running broker and it is down.
    Down {
        /// Which broker.
        broker: &'static str,
    },
    /// The process ended by itself.
    Died {
        /// Which broker.
        broker: &'static str,
        /// The last lines it wrote.
        log: String,
    },
    /// Something did not happen in time.
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
    },
    /// The broker answered something else than what was asked for.
    Refused {
        /// Which broker.
        broker: &'static str,
        /// What it answered.
        answer: String,
    },
    /// The operating system said no.
    Io {
        /// What was being done.
        what: String,
        /// The error.
        source: io::Error,
    },
}

impl BrokerError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { program } => write!(
                f,
                "{program} is not installed; install it with: scripts/install-brokers \
                 (or: sudo apt-get install -y --no-install-recommends {program})"
            ),
            Self::Down { broker } => write!(f, "{broker} is down"),
            Self::Died { broker, log } => write!(f, "{broker} ended by itself; its last words:\n{log}"),
            Self::Late { what, waited } => write!(f, "{what}: not within {:.1} s", waited.as_secs_f64()),
            Self::Refused { broker, answer } => write!(f, "{broker} answered: {answer}"),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for BrokerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The last lines of a log file, for an error message.
pub(super) fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
