//! Which way bytes go, and how many have gone.

/// Which way bytes go through a [`Proxy`](super::Proxy).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

/// What has gone through a [`Proxy`](super::Proxy) since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that clients opened, those included that were refused or found the broker down.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes passed on to the broker.
    pub to_broker: u64,
    /// Bytes passed on to clients.
    pub to_client: u64,
    /// How often all connections were cut, by [`Proxy::cut`](super::Proxy::cut) or
    /// [`Proxy::cut_after`](super::Proxy::cut_after).
    pub cuts: u64,
}
