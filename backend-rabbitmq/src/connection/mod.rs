//! Connections: dialling, coming back after a loss, errors and their certainty, confirms, and commands to the broker.

pub(crate) mod answered;
pub(crate) mod boot;
pub(crate) mod browser;
pub(crate) mod change;
pub(crate) mod confirms;
pub(crate) mod connections;
pub(crate) mod control;
pub(crate) mod control_channel;
pub(crate) mod dial;
pub(crate) mod fault;
pub(crate) mod greeting;
pub(crate) mod handle;
pub(crate) mod heard;
pub(crate) mod hold_limit;
pub(crate) mod link;
pub(crate) mod publisher;
pub(crate) mod queries;
pub(crate) mod request;
pub(crate) mod screen;
pub(crate) mod session;
pub(crate) mod sizes;
pub(crate) mod standing;
#[cfg(test)]
pub(crate) mod starved;
pub(crate) mod stream;
pub(crate) mod trial;
pub(crate) mod window;
