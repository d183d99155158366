//! Types that travel in messages.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type that travels as the JSON payload of a message.
pub trait Payload: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The message's kind: what a [`Worker`](crate::Worker) chooses the handler by. At most 200 bytes.
    const KIND: &'static str;
    /// The version of this payload's schema, `major.minor.patch`; another major version at the reader is warned of.
    const VERSION: &'static str = "1.0.0";
}
