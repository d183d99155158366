//! The way between clients and their broker, and what can happen on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::Queue;
use tokio::time::Instant;

/// A way to the broker of its own, over which some clients go. Whether it is a TCP proxy or simulated, orders take effect at
/// once, for open connections and later ones alike, and last until [`Link::heal`].
pub trait Link: fmt::Debug + Send + Sync {
    /// Cuts all connections now. New ones are let through.
    fn cut(&self);

    /// Lets `bytes` more through in one direction, over all connections together, then cuts all.
    fn cut_after(&self, direction: Direction, bytes: u64);

    /// Lets nothing through in one direction any more, not even the end of a connection: the peer seems silent.
    ///
    /// As with lost packets, which TCP sends again, what was withheld arrives after [`Link::heal`]; it is lost if
    /// [`Link::cut`] comes first.
    fn swallow(&self, direction: Direction);

    /// Passes at most so many bytes on in a second, in each direction, over all connections together.
    fn slow(&self, bytes_per_second: u64);

    /// Passes everything on after `time`; what comes next waits its turn.
    fn delay(&self, time: Duration);

    /// Nobody listens any more: new connections are refused, those that are open stay.
    fn refuse(&self);

    /// Closes every new connection as soon as it is made; those that are open stay.
    fn accept_and_close(&self);

    /// Takes back every order. Connections that were cut stay cut.
    fn heal(&self);

    /// What has gone through so far.
    fn traffic(&self) -> Traffic;

    /// When each connection was opened that anybody accepted, in their order. What is refused is seen by nobody but the client.
    fn attempts(&self) -> Vec<Instant>;
}

/// Which way bytes go on a [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

/// What has gone over a [`Link`] since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that clients opened, those included that were closed at once or found the broker down.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes passed on to the broker.
    pub to_broker: u64,
    /// Bytes passed on to clients.
    pub to_client: u64,
    /// How often all connections were cut, by [`Link::cut`] or [`Link::cut_after`].
    pub cuts: u64,
}

/// A link, and the URL by which clients go over it.
#[derive(Debug)]
pub struct Linked {
    /// The link, for as long as this value lives.
    pub link: Arc<dyn Link>,
    /// What [`Harness::open`](crate::Harness::open) finds in its options.
    pub url: String,
}

/// A client that reaches the broker over a link of its own.
#[derive(Debug)]
pub struct LinkedQueue {
    /// The client, recorded.
    pub queue: Arc<dyn Queue>,
    /// The link, for as long as this value lives.
    pub link: Arc<dyn Link>,
    /// The URL over the link, for more clients on it.
    pub url: String,
}
