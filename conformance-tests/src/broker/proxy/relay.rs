//! What the proxy's thread does: accept, connect, copy, by the rules of the moment.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::door::Door;
use super::rules::{Rules, Shared};
use crate::link::Direction;

const CHUNK: usize = 16 * 1024;
/// So many chunks a second go over a slow line.
const SLOW_CHUNKS: u64 = 20;

/// Accepts clients until the proxy is dropped.
pub(super) async fn serve(mut door: Door, broker: SocketAddr, shared: Arc<Shared>) {
    let mut rules = shared.rules.subscribe();
    loop {
        let client = tokio::select! {
            accepted = door.accept() => accepted,
            _ = rules.wait_for(|rules| rules.ended) => return,
        };
        let Ok(client) = client else { continue };
        shared.attempts.lock().push(Instant::now());
        if !rules.borrow().close_new {
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
        let most = most_at_once(&rules.borrow());
        let length = from.read(&mut chunk[..most]).await?;
        let delay = rules.borrow().delay;
        sleep(delay).await;
        slowly(&mut rules, direction, length, shared).await;
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

fn most_at_once(rules: &Rules) -> usize {
    let slow = rules.slow.and_then(|speed| usize::try_from(speed / SLOW_CHUNKS).ok());
    slow.map_or(CHUNK, |slow| slow.clamp(1, CHUNK))
}

/// Waits as long as these bytes take on a slow line, or until it is healed.
async fn slowly(rules: &mut watch::Receiver<Rules>, direction: Direction, bytes: usize, shared: &Shared) {
    let Some(speed) = rules.borrow().slow else { return };
    let over = shared.over_by(direction, bytes, speed);
    tokio::select! {
        () = sleep_until(over) => {}
        _ = rules.wait_for(|rules| rules.slow.is_none()) => {}
    }
}
