//! Where a message is sent to.

use std::fmt;
use std::sync::Arc;

use crate::text::{as_text, has_control_character};
use crate::{Invalid, QueueName, RoutingKey};

/// Where a message is sent to. Exhaustive: a new kind of destination must break backends.
///
/// A queue is not a topic: nothing is bound by its name alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// One queue, by its name.
    Queue(QueueName),
    /// Every queue that is bound by a pattern which matches this key, one copy each. Routes are taken at publish, also for
    /// a delayed message.
    Topic(RoutingKey),
    /// One inbox. Nothing is kept for it: a reply cannot be delayed, expire, or be deduplicated.
    Reply(ReplyAddress),
}

/// Whatever names a [`Destination`]: a [`QueueName`], a [`RoutingKey`] or a [`ReplyAddress`], or a reference to one. All that
/// is `Into<Destination>` is this. A text is not:
///
/// ```compile_fail,E0277
/// # use polyqueue::{Message, Queue, QueueExt};
/// # async fn send(queue: &dyn Queue) {
/// queue.publish_one("mail", Message::new("hello")).await;
/// // error[E0277]: `&str` is not where a message can be sent to
/// //   ^^^ should be a `QueueName`, a `RoutingKey` or a `ReplyAddress`
/// //   = note: a text is checked first: `QueueName::new(text)?`, or `const MAIL: QueueName = QueueName::from_static("mail");`
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not where a message can be sent to",
    label = "should be a `QueueName`, a `RoutingKey` or a `ReplyAddress`",
    note = "a text is checked first: `QueueName::new(text)?`, or `const MAIL: QueueName = QueueName::from_static(\"mail\");`"
)]
pub trait IntoDestination: Into<Destination> {}

#[diagnostic::do_not_recommend]
impl<T: Into<Destination>> IntoDestination for T {}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue {name:?}"),
            Self::Topic(key) => write!(f, "topic {key:?}"),
            Self::Reply(address) => write!(f, "inbox {:?}", address.as_str()),
        }
    }
}

impl PartialEq<QueueName> for Destination {
    fn eq(&self, name: &QueueName) -> bool {
        matches!(self, Self::Queue(own) if own == name)
    }
}

impl From<QueueName> for Destination {
    fn from(name: QueueName) -> Self {
        Self::Queue(name)
    }
}

impl From<&QueueName> for Destination {
    fn from(name: &QueueName) -> Self {
        Self::Queue(name.clone())
    }
}

impl From<RoutingKey> for Destination {
    fn from(key: RoutingKey) -> Self {
        Self::Topic(key)
    }
}

impl From<&RoutingKey> for Destination {
    fn from(key: &RoutingKey) -> Self {
        Self::Topic(key.clone())
    }
}

impl From<ReplyAddress> for Destination {
    fn from(address: ReplyAddress) -> Self {
        Self::Reply(address)
    }
}

impl From<&ReplyAddress> for Destination {
    fn from(address: &ReplyAddress) -> Self {
        Self::Reply(address.clone())
    }
}

/// The longest address of an inbox, in bytes of UTF-8.
const MAX_ADDRESS_BYTES: usize = 255;

/// Where replies are to be sent: opaque, made by a backend for an [`Inbox`](crate::Inbox), or by a foreign client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyAddress(Arc<str>);

impl ReplyAddress {
    /// For backends, and for an address that another client gave.
    ///
    /// # Errors
    /// [`Invalid`] unless it has 1 to 255 bytes and no control characters.
    pub fn new(address: impl AsRef<str>) -> Result<Self, Invalid> {
        let address = address.as_ref();
        if address.is_empty() || address.len() > MAX_ADDRESS_BYTES || has_control_character(address) {
            let given = address.len();
            let allowed = format!("{given} bytes given, allowed are 1 to 255 without control characters");
            return Err(Invalid::new("reply address", allowed));
        }
        Ok(Self(address.into()))
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

as_text!(ReplyAddress, Invalid);
