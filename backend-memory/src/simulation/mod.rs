//! A broker that can fail, and links to it that can be cut: what real brokers and networks do to clients, in this process and
//! on tokio's clock. Under a paused clock nothing of it is left to chance.

pub(crate) mod broker;
pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod consumer;
pub(crate) mod inbox;
pub(crate) mod known;
pub(crate) mod line;
pub(crate) mod link;
pub(crate) mod session;
pub(crate) mod size;
pub(crate) mod world;
