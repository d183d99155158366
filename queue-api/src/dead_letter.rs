//! Dead letters: records of messages that will not be handed out again unless somebody redrives them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::text::{Text, has_control_character};
use crate::{Error, Invalid, Message, QueueName, Result};

/// Identifies a dead letter in its queue: opaque, made by the backend. Not the message's id, which may be there twice. None is
/// empty or has a control character, and such a text is not read as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct DeadId(Arc<str>);

impl DeadId {
    /// For backends, and for ids that a person typed; one that fits nothing is simply not there.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DeadId {
    type Error = Invalid;

    fn try_from(id: String) -> std::result::Result<Self, Invalid> {
        let fault = match &*id {
            "" => Some("is empty"),
            id => has_control_character(id).then_some("has a control character"),
        };
        Text::checked("dead letter id", &id, fault).map(|_| Self::new(id))
    }
}

impl fmt::Display for DeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeadReason {
    /// Its last attempt failed, by a verdict or by the end of its lease.
    MaxAttempts,
    /// A handler refused it.
    Rejected,
    /// Its bytes could not be read.
    Undecodable,
    /// Its time to live ended before it was handed out.
    Expired,
    /// It was the oldest of the lowest priority in a queue that was full.
    Overflow,
}

impl DeadReason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 5] =
        [Self::MaxAttempts, Self::Rejected, Self::Undecodable, Self::Expired, Self::Overflow];

    /// The reason's name on the wire and on the command line: `max_attempts`, `rejected`, `undecodable`, `expired`,
    /// `overflow`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxAttempts => "max_attempts",
            Self::Rejected => "rejected",
            Self::Undecodable => "undecodable",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
        }
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for DeadReason {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or_else(|| {
            Error::invalid(
                "reason",
                format!("{text:?} given, allowed are {}", Self::ALL.map(Self::as_str).join(", ")),
            )
        })
    }
}

/// What a dead letter keeps of its message.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadBody {
    /// The original message, as it was published.
    Message(Box<Message>),
    /// What stood where a message should have been, byte for byte.
    Raw(Bytes),
}

/// The record of a death.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Identifies the record in its queue.
    pub id: DeadId,
    /// The queue in which it died.
    pub queue: QueueName,
    /// The message, or the bytes that were none.
    pub body: DeadBody,
    /// Why it died.
    pub reason: DeadReason,
    /// The error text of the last failure, at most 4 KiB.
    pub error: String,
    /// Attempts since it was published or last redriven.
    pub attempts: u32,
    /// Attempts over all its lives.
    pub total_attempts: u32,
    /// How often it was redriven before.
    pub redriven: u32,
    /// When it was first published, by the sender's clock; `None` where nobody said.
    pub first_published_at: Option<DateTime<Utc>>,
    /// When it died, by the server's clock (RabbitMQ: by the clock of the client that dead-lettered it).
    pub died_at: DateTime<Utc>,
    /// The name of the consumer that held it last, when one did.
    pub consumer: Option<String>,
}

impl DeadLetter {
    /// For backends: a death without an error, an attempt or a consumer, until its fields say otherwise. When the message was
    /// first published is read from it.
    pub fn new(
        id: DeadId,
        queue: QueueName,
        body: DeadBody,
        reason: DeadReason,
        died_at: DateTime<Utc>,
    ) -> Self {
        let mut letter = Self {
            id,
            queue,
            body,
            reason,
            error: String::new(),
            attempts: 0,
            total_attempts: 0,
            redriven: 0,
            first_published_at: None,
            died_at,
            consumer: None,
        };
        letter.first_published_at = letter.message().and_then(Message::published_at);
        letter
    }

    /// The message, when it was one.
    pub fn message(&self) -> Option<&Message> {
        match &self.body {
            DeadBody::Message(message) => Some(message),
            DeadBody::Raw(_) => None,
        }
    }
}

/// Which dead letters are meant; everything that is set must hold. The default means all.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> polyqueue::Result<()> {
/// use polyqueue::{Admin, DeadFilter, DeadReason, Page};
/// # use polyqueue::*;
///
/// # const MAIL: QueueName = QueueName::from_static("mail");
/// # let queue = polyqueue_memory::MemoryQueue::new();
/// # queue.declare(&QueueSpec::new(MAIL)).await?;
/// # queue.publish_one(MAIL, Message::new("hello").with_kind("welcome")).await?;
/// # let consumer = queue.subscribe(&Subscription::new(MAIL)).await?;
/// # let first = consumer.receive(1, std::time::Duration::ZERO).await?.remove(0);
/// # consumer.settle(&[(first.receipt, Verdict::reject("no such user"))]).await?;
/// let refused = DeadFilter::all().reason(DeadReason::Rejected).kind("welcome").error("no such user");
/// let page = queue.dead_letters(&MAIL, &refused, Page::first(20)).await?;
/// assert_eq!(page.dead_letters.len(), 1);
/// assert!(page.dead_letters.iter().all(|letter| refused.matches(letter)));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DeadFilter {
    /// Died for this reason.
    pub reason: Option<DeadReason>,
    /// The error text contains this, case-sensitive.
    pub error: Option<String>,
    /// The message is of this kind.
    pub kind: Option<String>,
    /// Died before this time.
    pub died_before: Option<DateTime<Utc>>,
    /// Died at this time or later.
    pub died_after: Option<DateTime<Utc>>,
}

impl DeadFilter {
    /// All dead letters.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those that died for `reason`.
    #[must_use]
    pub fn reason(mut self, reason: DeadReason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Only those whose error text contains `text`.
    #[must_use]
    pub fn error(mut self, text: impl Into<String>) -> Self {
        self.error = Some(text.into());
        self
    }

    /// Only messages of this kind.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Only those that died before `time`.
    #[must_use]
    pub fn died_before(mut self, time: DateTime<Utc>) -> Self {
        self.died_before = Some(time);
        self
    }

    /// Only those that died at `time` or later.
    #[must_use]
    pub fn died_after(mut self, time: DateTime<Utc>) -> Self {
        self.died_after = Some(time);
        self
    }

    /// Whether a letter is meant: the one place where the filter is understood, for every backend.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.reason.is_none_or(|reason| letter.reason == reason)
            && self.error.as_ref().is_none_or(|text| letter.error.contains(text))
            && self.kind.as_ref().is_none_or(|kind| letter.message().is_some_and(|m| m.kind() == kind))
            && self.died_before.is_none_or(|time| letter.died_at < time)
            && self.died_after.is_none_or(|time| letter.died_at >= time)
    }
}

/// Where a listing goes on: opaque, made by the backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor(Arc<str>);

impl Cursor {
    /// For backends.
    pub fn new(position: impl Into<Arc<str>>) -> Self {
        Self(position.into())
    }

    /// The position as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which part of a listing is wanted.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where to go on; `None` starts at the oldest.
    pub after: Option<Cursor>,
    /// The most letters to return, 1 to 500.
    pub limit: usize,
}

impl Page {
    /// The most letters that one page holds.
    pub const MAX: usize = 500;

    /// The oldest `limit` letters.
    pub fn first(limit: usize) -> Self {
        Self { after: None, limit }
    }

    /// The next `limit` letters.
    pub fn after(cursor: Cursor, limit: usize) -> Self {
        Self { after: Some(cursor), limit }
    }

    /// Says whether the limit is allowed; the first line of every backend's listing.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the limit is within 1 to 500.
    pub fn check(&self) -> Result<()> {
        if (1..=Self::MAX).contains(&self.limit) {
            return Ok(());
        }
        Err(Error::invalid("page limit", format!("{} given, allowed are 1 to {}", self.limit, Self::MAX)))
    }
}

/// A part of a listing, oldest death first.
#[derive(Clone, Debug, Default)]
pub struct DeadPage {
    /// Those that match. May be fewer than asked for, even none, although `next` is there.
    pub dead_letters: Vec<DeadLetter>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_knows_when_its_message_was_first_published() {
        let letter = |body| {
            let queue = QueueName::from_static("mail");
            DeadLetter::new(DeadId::new("1"), queue, body, DeadReason::Expired, DateTime::UNIX_EPOCH)
        };
        let message = Message::new("").with_published_at(DateTime::UNIX_EPOCH);
        let published = letter(DeadBody::Message(message.into())).first_published_at;
        assert_eq!(published, Some(DateTime::UNIX_EPOCH));
        assert_eq!(letter(DeadBody::Raw(Bytes::new())).first_published_at, None);
    }
}
