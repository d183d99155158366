//! One error type for everything; each variant answers "what can the caller do?".

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::causes::with_causes;
use crate::{Destination, Invalid};

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error that may cross threads: what handlers return and what [`Error`]'s constructors accept.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The cause of an [`Error`], shared, so that one lost connection can answer many callers.
pub type ErrorCause = Arc<dyn std::error::Error + Send + Sync>;

/// Whether the effect of a failed call may have happened all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// The effect did not and will not happen.
    Definite,
    /// The effect may have happened, or may still happen: the caller decides whether to repeat.
    Unknown,
}

/// Why a call failed. A lost lease is no error but an answer: see [`Settled`](crate::Settled).
///
/// Its text says everything, down to the last cause, so that `source()` is none: a cause is a field of its variant, and is printed
/// once by whatever prints errors.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use polyqueue::{Certainty, Error, Message, Queue, QueueName};
///
/// # let queue = polyqueue_memory::MemoryQueue::new();
/// let nowhere = QueueName::from_static("nowhere");
/// match queue.publish(&nowhere.into(), vec![Message::new("hello")]).await {
///     Ok(_) => println!("each message has an answer of its own"),
///     Err(Error::NotFound(what)) => println!("declare {what} first"),
///     Err(error) if error.certainty() == Certainty::Unknown => println!("it may be stored: {error}"),
///     Err(error) if error.is_transient() => println!("again, with backoff: {error}"),
///     Err(error) => println!("somebody must do something: {error}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection is lost, or the broker refused for now. Try again with backoff.
    #[error("{provider} is unavailable: {}", Causes(.cause))]
    Unavailable {
        /// The backend.
        provider: &'static str,
        /// Whether the effect may have happened.
        certainty: Certainty,
        /// What the connection said; names the address, never a password.
        cause: ErrorCause,
    },
    /// The call's deadline passed.
    #[error("{what} timed out after {after:?}")]
    Timeout {
        /// The call.
        what: Cow<'static, str>,
        /// The deadline that passed.
        after: Duration,
        /// Whether the effect may have happened.
        certainty: Certainty,
    },
    /// A bound is reached: slow down. Nothing was stored.
    #[error("{what} is full: its limit is {limit}")]
    Full {
        /// What is full.
        what: Cow<'static, str>,
        /// The bound, in the unit that `what` names.
        limit: u64,
    },
    /// Wrong credentials or missing permissions: an operator must act.
    #[error("{provider} denied access: {what}")]
    Denied {
        /// The backend.
        provider: &'static str,
        /// What was denied, and where.
        what: String,
    },
    /// Bad input, found before anything was sent.
    #[error("invalid {field}{}: {allowed}", At(*index))]
    Invalid {
        /// The field that is wrong.
        field: Cow<'static, str>,
        /// Its position in the batch, from 0.
        index: Option<usize>,
        /// What was given and what is allowed.
        allowed: String,
    },
    /// This broker, or this version of it, cannot do it.
    #[error("{provider} does not support {what}")]
    Unsupported {
        /// The backend.
        provider: &'static str,
        /// What it cannot do, and what can.
        what: String,
    },
    /// No such queue, no queue bound to this topic, no such inbox any more. Nothing was stored.
    #[error("{}", Missing(.0))]
    NotFound(Destination),
    /// The responder failed for good: its last attempt failed, or it refused the request.
    #[error("the responder failed: {0}")]
    Remote(String),
    /// A payload cannot be read or written as the type it is said to be.
    #[error("cannot decode or encode a payload of kind {kind:?}: {}", Causes(.cause))]
    Codec {
        /// The message's kind.
        kind: String,
        /// What the codec said.
        cause: ErrorCause,
    },
    /// [`Queue::close`](crate::Queue::close) was called on this handle.
    #[error("this queue handle is closed")]
    Closed,
    /// The broker said something that we do not understand.
    #[error("{provider} answered with an error: {}", Causes(.cause))]
    Backend {
        /// The backend.
        provider: &'static str,
        /// Whether the effect may have happened.
        certainty: Certainty,
        /// What it said.
        cause: ErrorCause,
    },
}

impl Error {
    /// An [`Error::Unavailable`].
    pub fn unavailable(provider: &'static str, certainty: Certainty, cause: impl Into<BoxError>) -> Self {
        Self::Unavailable { provider, certainty, cause: cause.into().into() }
    }

    /// An [`Error::Timeout`].
    pub fn timeout(what: impl Into<Cow<'static, str>>, after: Duration, certainty: Certainty) -> Self {
        Self::Timeout { what: what.into(), after, certainty }
    }

    /// The definite [`Error::Timeout`] of a publish that waited for room and found none: nothing was stored.
    pub fn no_room(to: impl Into<Destination>, after: Duration) -> Self {
        Self::timeout(format!("waiting for room in {}", to.into()), after, Certainty::Definite)
    }

    /// An [`Error::Invalid`] outside any batch; [`Error::at`] adds the position.
    pub fn invalid(field: impl Into<Cow<'static, str>>, allowed: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), index: None, allowed: allowed.into() }
    }

    /// The same error, saying which item of a batch is meant. Only [`Error::Invalid`] carries a position.
    #[must_use]
    pub fn at(mut self, position: usize) -> Self {
        if let Self::Invalid { index, .. } = &mut self {
            *index = Some(position);
        }
        self
    }

    /// An [`Error::NotFound`].
    pub fn not_found(what: impl Into<Destination>) -> Self {
        Self::NotFound(what.into())
    }

    /// An [`Error::Full`].
    pub fn full(what: impl Into<Cow<'static, str>>, limit: u64) -> Self {
        Self::Full { what: what.into(), limit }
    }

    /// An [`Error::Denied`].
    pub fn denied(provider: &'static str, what: impl Into<String>) -> Self {
        Self::Denied { provider, what: what.into() }
    }

    /// An [`Error::Unsupported`].
    pub fn unsupported(provider: &'static str, what: impl Into<String>) -> Self {
        Self::Unsupported { provider, what: what.into() }
    }

    /// An [`Error::Codec`].
    pub fn codec(kind: impl Into<String>, cause: impl Into<BoxError>) -> Self {
        Self::Codec { kind: kind.into(), cause: cause.into().into() }
    }

    /// An [`Error::Backend`].
    pub fn backend(provider: &'static str, certainty: Certainty, cause: impl Into<BoxError>) -> Self {
        Self::Backend { provider, certainty, cause: cause.into().into() }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. } | Self::Full { .. })
    }

    /// The same of a call whose effect does not matter: what it stands before did not happen.
    #[must_use]
    pub fn definite(mut self) -> Self {
        if let Self::Unavailable { certainty, .. }
        | Self::Timeout { certainty, .. }
        | Self::Backend { certainty, .. } = &mut self
        {
            *certainty = Certainty::Definite;
        }
        self
    }

    /// Whether the effect of the failed call may have happened.
    pub fn certainty(&self) -> Certainty {
        match self {
            Self::Unavailable { certainty, .. }
            | Self::Timeout { certainty, .. }
            | Self::Backend { certainty, .. } => *certainty,
            _ => Certainty::Definite,
        }
    }
}

impl From<Invalid> for Error {
    fn from(Invalid { field, allowed }: Invalid) -> Self {
        Self::invalid(field, allowed)
    }
}

struct Missing<'a>(&'a Destination);

impl std::fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Destination::Queue(name) => write!(f, "no queue named {name:?}: declare it first"),
            Destination::Topic(key) => {
                write!(f, "no queue is bound to the topic {key:?}: declare one with a binding")
            }
            Destination::Reply(address) => {
                write!(f, "nobody awaits a reply at {:?} any more", address.as_str())
            }
        }
    }
}

struct Causes<'a>(&'a ErrorCause);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&with_causes(&**self.0))
    }
}

struct At(Option<usize>);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(index) => write!(f, " of message {index}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the handshake failed")]
    struct Handshake(#[source] std::io::Error);

    #[test]
    fn each_cause_is_said_once_however_it_is_printed() {
        let lost = || Handshake(std::io::Error::other("reset by peer"));
        for error in [
            Error::unavailable("redis", Certainty::Unknown, lost()),
            Error::backend("redis", Certainty::Unknown, lost()),
            Error::codec("mail", lost()),
            Error::unavailable("redis", Certainty::Unknown, Error::codec("mail", lost())),
        ] {
            assert!(std::error::Error::source(&error).is_none());
            let display = error.to_string();
            let error = anyhow::Error::from(error).context("sending a mail");
            let walked: Vec<String> = error.chain().map(ToString::to_string).collect();
            for text in [display, format!("{error:#}"), format!("{error:?}"), walked.join(": ")] {
                for cause in ["the handshake failed", "reset by peer"] {
                    assert_eq!(text.matches(cause).count(), 1, "{text}");
                }
            }
        }
    }

    #[test]
    fn an_invalid_item_is_named_by_its_position() {
        let error = Error::invalid("priority", "11 is not within 1 to 10").at(57);
        assert_eq!(error.to_string(), "invalid priority of message 57: 11 is not within 1 to 10");
    }

    #[test]
    fn who_found_no_room_learns_where() {
        let error = Error::no_room(crate::QueueName::from_static("mail"), Duration::from_secs(2));
        assert_eq!(error.to_string(), r#"waiting for room in queue "mail" timed out after 2s"#);
        assert_eq!(error.certainty(), Certainty::Definite);
    }

    #[test]
    fn only_the_three_that_may_heal_are_transient() {
        let lost = Error::unavailable("redis", Certainty::Unknown, "connection reset");
        assert!(lost.is_transient());
        assert_eq!(lost.certainty(), Certainty::Unknown);
        assert_eq!(lost.definite().certainty(), Certainty::Definite);
        assert!(Error::full("memory broker (bytes)", 1).is_transient());
        assert!(!Error::Closed.is_transient());
        assert_eq!(Error::Closed.certainty(), Certainty::Definite);
    }
}
