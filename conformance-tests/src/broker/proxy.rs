//! A TCP proxy in front of a broker, which counts, delays, withholds and cuts.

mod relay;
#[cfg(test)]
mod tests;
pub(super) mod traffic;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use polyqueue::Queue;
use tokio::runtime;

use self::relay::{Rules, Shared};
use self::traffic::{Direction, Traffic};
use super::error::{BrokerError, Result};

/// A TCP proxy on a loopback port of its own. It runs in a thread of its own, on a real clock, and belongs to no runtime
/// of the test. Dropping it cuts everything.
///
/// Orders take effect at once, for open connections and later ones alike, and last until [`Proxy::heal`].
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    broker: u16,
    shared: Arc<Shared>,
}

/// A client that reaches the broker through a proxy.
#[derive(Debug)]
pub struct ProxiedQueue {
    /// The client, recorded.
    pub queue: Arc<dyn Queue>,
    /// The proxy, for as long as this value lives.
    pub proxy: Proxy,
    /// The URL through the proxy, for more clients on it.
    pub url: String,
}

impl Proxy {
    /// Starts a proxy in front of whatever listens, now or later, on the loopback port `broker`.
    pub fn start(broker: u16) -> Result<Self> {
        let (listener, port) = listen().map_err(BrokerError::io("starting a proxy"))?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(BrokerError::io("starting a proxy"))?;
        let proxy = Self { port, broker, shared: Arc::default() };
        let shared = proxy.shared.clone();
        let broker = SocketAddr::from((Ipv4Addr::LOCALHOST, broker));
        std::thread::spawn(move || runtime.block_on(relay::serve(listener, broker, shared)));
        Ok(proxy)
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The broker's URL changed to lead through this proxy.
    pub fn through(&self, url: &str) -> String {
        url.replacen(&format!(":{}", self.broker), &format!(":{}", self.port), 1)
    }

    /// What has gone through so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.traffic()
    }

    /// Cuts all connections now. New ones are let through.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Lets `bytes` more through in one direction, over all connections together, then cuts all.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.shared.allow(direction, Some(bytes));
    }

    /// Closes every new connection as soon as it is made; it is counted.
    pub fn refuse(&self) {
        self.order(|rules| rules.refuse = true);
    }

    /// Passes each chunk (up to 16 KiB) on after `time`; the next one is read after that.
    pub fn delay(&self, time: Duration) {
        self.order(|rules| rules.delay = time);
    }

    /// Lets nothing through in one direction any more, not even the end of a connection: the peer seems silent.
    ///
    /// As with lost packets, which TCP sends again, what was withheld arrives after [`Proxy::heal`]; it is lost if
    /// [`Proxy::cut`] comes first.
    pub fn swallow(&self, direction: Direction) {
        self.order(|rules| rules.swallow[direction as usize] = true);
    }

    /// Takes back every order. Connections that were cut stay cut.
    pub fn heal(&self) {
        self.shared.allow(Direction::ToBroker, None);
        self.shared.allow(Direction::ToClient, None);
        self.order(Rules::heal);
    }

    fn order(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.rules.send_modify(change);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.order(|rules| rules.ended = true);
    }
}

fn listen() -> std::io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}
