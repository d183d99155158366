//! The queues that say which dedup keys a queue has.

use crate::connection::change::Change;
use crate::connection::fault::{Answer, if_there};
use crate::topology::records::CatalogueEntry;
use crate::topology::routes::exists;
use crate::topology::state::Topology;
use crate::wire::names::Names;
use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable};
use polyqueue::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long an empty queue of a key may stay, beyond the window.
pub(crate) const SLACK: Duration = Duration::from_secs(60);

/// Makes what says which keys of a queue there are.
pub(crate) async fn declare_keys(topology: &Arc<Topology>, entry: &CatalogueEntry) -> Result<()> {
    let Some(dedup) = entry.spec.dedup.filter(|_| !topology.dedup_elsewhere) else { return Ok(()) };
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), millis(dedup.window + SLACK));
    let notes = topology.names.keys(&entry.address);
    let mut changes = vec![Change::Queue { name: notes.clone(), arguments }];
    changes.extend(kept(&topology.names, notes.clone()));
    match topology.handle.control().change(changes).await.map_err(Error::from) {
        // Who may not make it can use what is there.
        Err(Error::Denied { .. }) if exists(topology, &notes).await? => Ok(()),
        changed => changed,
    }
}

/// What is to be done last before the answer, so that a crash of the broker does not take back a queue that was just declared.
///
/// RabbitMQ's database, Mnesia, has a transaction on disk before it answers, but, when the node is busy, that it was committed only
/// up to two seconds later, or with the next transaction: after a crash in between, the queue was never declared. This binding, to
/// which nobody publishes, is that next transaction.
pub(crate) fn kept(names: &Names, queue: String) -> [Change; 2] {
    let (name, pattern, arguments) = (names.key_exchange(), queue.clone(), FieldTable::default());
    [
        Change::Exchange { name: name.clone(), kind: ExchangeKind::Direct, arguments },
        Change::Bind { queue, exchange: name, pattern },
    ]
}

/// Removes all keys of a queue that is being deleted.
pub(crate) async fn delete_keys(topology: &Arc<Topology>, entry: &CatalogueEntry) -> Result<()> {
    if entry.spec.dedup.is_none() || topology.dedup_elsewhere {
        return Ok(());
    }
    if_there(delete_noted(topology, &entry.address).await).map(drop)
}

async fn delete_noted(topology: &Topology, address: &str) -> Answer<()> {
    let channel = topology.handle.control().dedicated().await?;
    let notes = topology.names.keys(address);
    loop {
        let got = channel.get(&notes, 256).await?;
        if got.is_empty() {
            return channel.change(vec![Change::NoQueue { name: notes }]).await;
        }
        let noted = got.into_iter().filter_map(|note| String::from_utf8(note.data).ok());
        let markers = noted.filter(|object| topology.names.is_marker(address, object));
        channel.change(markers.map(|name| Change::NoQueue { name }).collect()).await?;
    }
}

pub(crate) fn millis(time: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}
