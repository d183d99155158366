//! A TCP proxy in front of a broker: a link that counts, delays, withholds and cuts.

mod door;
mod relay;
mod rules;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;

use self::door::{Door, DoorKeeper};
use self::rules::{Rules, Shared};
use super::error::{BrokerError, Result};
use super::port;
use crate::link::{Direction, Link, Traffic};

/// A TCP proxy on a loopback port of its own. It runs in a thread of its own, on a real clock, and belongs to no runtime
/// of the test. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    broker: u16,
    door: DoorKeeper,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts a proxy in front of whatever listens, now or later, on the loopback port `broker`.
    pub fn start(broker: u16) -> Result<Self> {
        Self::before(SocketAddr::from((Ipv4Addr::LOCALHOST, broker)))
    }

    /// Starts a proxy in front of a broker on whatever machine.
    pub fn before(broker: SocketAddr) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(BrokerError::io("starting a proxy"))?;
        let port = port::free()?;
        let entered = runtime.enter();
        let (door, keeper) = Door::open(port).map_err(BrokerError::io("starting a proxy"))?;
        drop(entered);
        let proxy = Self { port, broker: broker.port(), door: keeper, shared: Arc::default() };
        let shared = proxy.shared.clone();
        std::thread::spawn(move || runtime.block_on(relay::serve(door, broker, shared)));
        Ok(proxy)
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The broker's URL changed to lead through this proxy.
    pub fn through(&self, url: &str) -> String {
        url.replacen(&format!(":{}", self.broker), &format!(":{}", self.port), 1)
    }

    fn order(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.rules.send_modify(change);
    }
}

impl Link for Proxy {
    fn cut(&self) {
        self.shared.cut();
    }

    fn cut_after(&self, direction: Direction, bytes: u64) {
        self.shared.allow(direction, Some(bytes));
    }

    fn swallow(&self, direction: Direction) {
        self.order(|rules| rules.swallow[direction as usize] = true);
    }

    fn slow(&self, bytes_per_second: u64) {
        self.order(|rules| rules.slow = Some(bytes_per_second.max(1)));
    }

    /// Each chunk (up to 16 KiB) waits for `time`; the next one is read after that.
    fn delay(&self, time: Duration) {
        self.order(|rules| rules.delay = time);
    }

    fn refuse(&self) {
        self.door.set_open(false);
    }

    fn accept_and_close(&self) {
        self.order(|rules| rules.close_new = true);
    }

    fn heal(&self) {
        self.shared.allow(Direction::ToBroker, None);
        self.shared.allow(Direction::ToClient, None);
        self.order(Rules::heal);
        self.door.set_open(true);
    }

    fn traffic(&self) -> Traffic {
        self.shared.traffic()
    }

    fn attempts(&self) -> Vec<Instant> {
        self.shared.attempts.lock().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.order(|rules| rules.ended = true);
    }
}
