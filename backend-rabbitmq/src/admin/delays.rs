//! Whether delayed messages wait, and who would move them.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use polyqueue::Result;

use crate::connection::fault::is_missing;
use crate::connection::session::Session;
use crate::delay::slots::{LEVELS, Slot};
use crate::wire::delay::LOCK;

/// What waits in a virtual host until it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delays {
    /// How many messages wait, of all namespaces; without those that are being moved just now.
    pub waiting: u64,
    /// Whether a client is connected that moves what is due.
    pub is_moved: bool,
}

/// Counts what waits.
pub(crate) async fn delays(session: &Session) -> Result<Delays> {
    let Some((_, movers)) = counts(session, LOCK.to_owned()).await? else {
        return Ok(Delays { waiting: 0, is_moved: false });
    };
    let mut waiting = 0;
    for slot in Slot::all(0..LEVELS) {
        waiting += counts(session, slot.queue()).await?.map_or(0, |(ready, _)| u64::from(ready));
    }
    Ok(Delays { waiting, is_moved: movers > 0 })
}

/// How many messages and consumers a queue has, if it is there.
async fn counts(session: &Session, queue: String) -> Result<Option<(u32, u32)>> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let channel = session.channel().await?;
    match channel.queue_declare(queue.into(), options, FieldTable::default()).await {
        Ok(found) => Ok(Some((found.message_count(), found.consumer_count()))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(session.fault(&error)),
    }
}
