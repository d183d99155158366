//! The queues that say which dedup keys a queue has.

use crate::connection::change::Change;
use crate::connection::fault::{Answer, if_there};
use crate::topology::records::CatalogueEntry;
use crate::topology::state::Topology;
use lapin::types::{AMQPValue, FieldTable};
use polyqueue::Result;
use std::sync::Arc;
use std::time::Duration;

/// How long an empty queue of a key may stay, beyond the window.
pub(crate) const SLACK: Duration = Duration::from_secs(60);

/// Makes what says which keys of a queue there are.
pub(crate) async fn declare_keys(topology: &Arc<Topology>, entry: &CatalogueEntry) -> Result<()> {
    let Some(dedup) = entry.spec.dedup.filter(|_| !topology.dedup_elsewhere) else { return Ok(()) };
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), millis(dedup.window + SLACK));
    let notes = Change::Queue { name: topology.names.keys(&entry.address), arguments };
    Ok(topology.handle.control().change(vec![notes]).await?)
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
