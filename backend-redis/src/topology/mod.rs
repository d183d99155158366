//! The catalogue, and what changes it.

pub(crate) mod catalogue;
pub(crate) mod declare;
mod known;
mod notice;
pub(crate) mod revival;
pub(crate) mod table;
pub(crate) mod watch;
