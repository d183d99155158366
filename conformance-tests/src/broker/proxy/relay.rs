//! What the proxy's thread does: accept, connect, copy, by the rules of the moment.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::traffic::{Direction, Traffic};

const CHUNK: usize = 16 * 1024;

/// What holds for all connections at the moment.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) refuse: bool,
    pub(super) delay: Duration,
    /// By [`Direction`].
    pub(super) swallow: [bool; 2],
    pub(super) ended: bool,
    /// How many cuts there were; a connection lives within one.
    cuts: u64,
}

impl Rules {
    pub(super) fn heal(&mut self) {
        *self = Self { ended: self.ended, cuts: self.cuts, ..Self::default() };
    }
}

/// What the proxy and its thread both hold.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) rules: watch::Sender<Rules>,
    /// Bytes that may still pass before everything is cut, by [`Direction`].
    allowance: Mutex<[Option<u64>; 2]>,
    connections: AtomicU64,
    open: AtomicU64,
    passed: [AtomicU64; 2],
}

impl Shared {
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.connections.load(Relaxed),
            open: self.open.load(Relaxed),
            to_broker: self.passed[Direction::ToBroker as usize].load(Relaxed),
            to_client: self.passed[Direction::ToClient as usize].load(Relaxed),
            cuts: self.rules.borrow().cuts,
        }
    }

    pub(super) fn cut(&self) {
        self.rules.send_modify(|rules| rules.cuts += 1);
    }

    pub(super) fn allow(&self, direction: Direction, bytes: Option<u64>) {
        self.allowance.lock()[direction as usize] = bytes;
        if bytes == Some(0) {
            self.spent(direction);
        }
    }

    /// How many of `wanted` bytes may pass; they count as passed.
    fn take(&self, direction: Direction, wanted: usize) -> usize {
        match &mut self.allowance.lock()[direction as usize] {
            Some(left) => {
                let granted = wanted.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= granted as u64;
                granted
            }
            None => wanted,
        }
    }

    /// Cuts if the allowance of a direction is used up, once.
    fn spent(&self, direction: Direction) {
        let used_up = {
            let mut allowance = self.allowance.lock();
            let used_up = allowance[direction as usize] == Some(0);
            if used_up {
                allowance[direction as usize] = None;
            }
            used_up
        };
        if used_up {
            self.cut();
        }
    }
}

/// Accepts clients until the proxy is dropped.
pub(super) async fn serve(listener: std::net::TcpListener, broker: SocketAddr, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut rules = shared.rules.subscribe();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = rules.wait_for(|rules| rules.ended) => return,
        };
        // An accept can fail for one client (it has gone already) without the listener being lost.
        let Ok((client, _)) = client else { continue };
        shared.connections.fetch_add(1, Relaxed);
        if !rules.borrow().refuse {
            tokio::spawn(connect(client, broker, shared.clone()));
        }
    }
}

/// One connection, from its beginning to its end or cut.
async fn connect(client: TcpStream, broker: SocketAddr, shared: Arc<Shared>) {
    shared.open.fetch_add(1, Relaxed);
    let mut rules = shared.rules.subscribe();
    let born = rules.borrow().cuts;
    tokio::select! {
        _ = relay(client, broker, &shared) => {}
        _ = rules.wait_for(|rules| rules.ended || rules.cuts != born) => {}
    }
    shared.open.fetch_sub(1, Relaxed);
}

async fn relay(client: TcpStream, broker: SocketAddr, shared: &Shared) -> io::Result<()> {
    let broker = TcpStream::connect(broker).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    tokio::try_join!(
        copy(from_client, to_broker, Direction::ToBroker, shared),
        copy(from_broker, to_client, Direction::ToClient, shared),
    )?;
    Ok(())
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    shared: &Shared,
) -> io::Result<()> {
    let mut rules = shared.rules.subscribe();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        let delay = rules.borrow().delay;
        sleep(delay).await;
        let _ = rules.wait_for(|rules| !rules.swallow[direction as usize]).await;
        if length == 0 {
            return to.shutdown().await;
        }
        let granted = shared.take(direction, length);
        // Counted before, for whoever sees them arrive and then looks.
        shared.passed[direction as usize].fetch_add(granted as u64, Relaxed);
        to.write_all(&chunk[..granted]).await?;
        if granted < length {
            // Cut in a moment; what is beyond the allowance must never arrive.
            shared.spent(direction);
            return std::future::pending().await;
        }
        shared.spent(direction);
    }
}
