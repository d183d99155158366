//! What is published, and what the broker answers.

use bytes::Bytes;
use lapin::BasicProperties;

/// What is to be published, and where.
#[derive(Clone, Debug)]
pub(crate) struct PublishRequest {
    pub(crate) exchange: String,
    pub(crate) key: String,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// What the broker answered.
#[derive(Debug)]
pub(crate) enum Confirm {
    /// It has the message.
    Stored,
    /// No queue wanted it; nothing was stored.
    Unroutable,
}
