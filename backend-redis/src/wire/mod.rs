//! What is written and read: names of keys, fields of messages, requests and replies.

pub(crate) mod codec;
pub(crate) mod msgpack;
pub(crate) mod names;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod time;
