//! The connections to the server, and what one client shares.

pub(crate) mod fault;
pub(crate) mod handle;
pub(crate) mod handshake;
pub(crate) mod node;
pub(crate) mod notifier;
pub(crate) mod single;
pub(crate) mod steps;
pub(crate) mod stream;
