//! The connections to the server, and what one client shares.

pub(crate) mod answers;
pub(crate) mod blocked;
pub(crate) mod clock;
pub(crate) mod denied;
mod exchange;
pub(crate) mod fault;
pub(crate) mod handle;
pub(crate) mod handshake;
mod lateness;
pub(crate) mod listener;
pub(crate) mod listening;
mod marks;
pub(crate) mod node;
pub(crate) mod notifier;
pub(crate) mod pace;
pub(crate) mod probe;
pub(crate) mod progress;
pub(crate) mod refused;
pub(crate) mod rights;
pub(crate) mod single;
#[cfg(test)]
pub(crate) mod starved;
mod state;
pub(crate) mod steps;
pub(crate) mod stream;
