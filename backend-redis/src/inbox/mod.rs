//! Reading replies.

pub(crate) mod reader;
