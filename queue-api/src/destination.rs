//! Where a message is sent to.

use std::fmt;

use crate::{QueueName, ReplyAddress, RoutingKey};

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
