//! Delayed messages whose queue was not there when they came due: sent on where the queue is known, dropped with a deleted one.
//!
//! A broker that comes back after a crash may route before its bindings are back. So the end of the delay queues is looked at
//! whenever a handle connects, and a few times more after a connection was lost.

use crate::topology::state::{Topology, Watcher};
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use lapin::message::Delivery;
use polyqueue::Result;

use crate::connection::request::{Confirm, PublishRequest};
use crate::topology::follow::up_to_date;
use crate::topology::known::AddressOwner;
use crate::wire::delay::{UNROUTABLE, address_of};
use crate::wire::republish;

/// The most messages that one look takes up.
const AT_ONCE: usize = 100;
/// When to look, after a connection was made.
const LOOKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(30)];

/// Begins to look after them, once for each connection.
pub(crate) fn watch(topology: &Arc<Topology>) {
    let mut watcher = topology.watcher.lock();
    let again = watcher.is_some();
    *watcher = Some(Watcher::spawn(topology, look(Arc::downgrade(topology), again)));
}

/// Looks once after the first connection, and several times after each later one.
async fn look(topology: Weak<Topology>, again: bool) {
    for pause in LOOKS.into_iter().take(if again { LOOKS.len() } else { 1 }) {
        tokio::time::sleep(pause).await;
        let Some(topology) = topology.upgrade() else { return };
        if let Err(error) = sweep_unroutable(&topology).await {
            tracing::debug!(name: "rabbitmq.unrouted_not_swept", %error, "what found no queue could not be looked through");
        }
    }
}

async fn sweep_unroutable(topology: &Arc<Topology>) -> Result<()> {
    let control = topology.handle.control();
    if control.messages(UNROUTABLE).await? == 0 {
        topology.stranded.store(0, Relaxed);
        return Ok(());
    }
    up_to_date(topology).await?;
    let channel = control.dedicated().await?;
    let (mut sent, mut dropped, mut stranded) = (0_u64, 0_u64, 0_u64);
    for delivery in channel.get(UNROUTABLE, AT_ONCE).await? {
        let tag = delivery.delivery_tag;
        match send_on(topology, delivery).await? {
            Fate::Sent => sent += 1,
            Fate::Dropped => dropped += 1,
            Fate::Left { ours } => {
                stranded += u64::from(ours);
                continue;
            }
        }
        channel.remove(UNROUTABLE, &[tag]).await?;
    }
    topology.stranded.store(stranded, Relaxed);
    if sent + dropped + stranded > 0 {
        tracing::info!(name: "rabbitmq.unrouted_swept", sent, dropped, stranded, "looked through what found no queue");
    }
    // What was not acked goes back when the channel ends.
    channel.end().await;
    Ok(())
}

async fn send_on(topology: &Arc<Topology>, delivery: Delivery) -> Result<Fate> {
    let whose = match address_of(delivery.routing_key.as_str()) {
        Some(address) => topology.catalogue.whose(address),
        None => AddressOwner::Nobody,
    };
    match whose {
        AddressOwner::Deleted => Ok(Fate::Dropped),
        AddressOwner::Nobody => {
            let target = republish::target(&delivery.properties);
            let ours = target.is_some_and(|target| topology.names.is_ours(target));
            Ok(Fate::Left { ours })
        }
        AddressOwner::Queue(queue) => {
            let properties = republish::arrived(&delivery.properties);
            let key = topology.names.ready(&queue);
            let request =
                PublishRequest { exchange: String::new(), key, properties, body: delivery.data.into() };
            match topology.handle.store(request).await? {
                Confirm::Stored => Ok(Fate::Sent),
                Confirm::Unroutable => Ok(Fate::Left { ours: true }),
            }
        }
    }
}

/// What became of a message.
enum Fate {
    /// It is in its queue.
    Sent,
    /// Its queue was deleted, and it with it.
    Dropped,
    /// Nobody knows its queue.
    Left { ours: bool },
}
