//! The queues that say which dedup keys a queue has.

use crate::connection::fault::is_missing;
use crate::connection::link::Session;
use crate::connection::queries::get;
use crate::topology::records::CatalogueEntry;
use crate::topology::state::Topology;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use polyqueue::Result;
use std::sync::Arc;
use std::time::Duration;

/// How long an empty queue of a key may stay, beyond the window.
pub(crate) const SLACK: Duration = Duration::from_secs(60);

/// Makes what says which keys of a queue there are.
pub(crate) async fn declare_keys(
    topology: &Arc<Topology>,
    session: &Session,
    entry: &CatalogueEntry,
) -> Result<()> {
    let Some(dedup) = entry.spec.dedup.filter(|_| !topology.dedup_elsewhere) else { return Ok(()) };
    let channel = session.channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), millis(dedup.window + SLACK));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let made = channel.queue_declare(topology.names.keys(&entry.address).into(), options, arguments).await;
    made.map(drop).map_err(|e| session.fault(&e))
}

/// Removes all keys of a queue that is being deleted.
pub(crate) async fn delete_keys(
    topology: &Arc<Topology>,
    session: &Session,
    entry: &CatalogueEntry,
) -> Result<()> {
    if entry.spec.dedup.is_none() || topology.dedup_elsewhere {
        return Ok(());
    }
    let channel = session.channel().await?;
    let notes = topology.names.keys(&entry.address);
    let work = async {
        loop {
            let (got, _) = get(channel.clone(), notes.clone(), 256).await?;
            if got.is_empty() {
                break;
            }
            let mut deleted = Vec::new();
            for note in &got {
                if let Ok(object) = std::str::from_utf8(&note.data)
                    && topology.names.is_marker(&entry.address, object)
                {
                    deleted.push(channel.queue_delete(object.into(), QueueDeleteOptions::default()));
                }
            }
            futures_util::future::try_join_all(deleted).await?;
        }
        channel.queue_delete(notes.as_str().into(), QueueDeleteOptions::default()).await
    };
    match work.await {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(session.fault(&error)),
    }
}

pub(crate) fn millis(time: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}
