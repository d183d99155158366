//! The connections to the server, and what one client shares.

pub(crate) mod fault;
pub(crate) mod handle;
pub(crate) mod handshake;
pub(crate) mod link;
pub(crate) mod notifier;
pub(crate) mod steps;
