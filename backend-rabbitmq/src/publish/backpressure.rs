//! Bounds of ready messages, kept by who publishes.
//!
//! Never by the broker: a queue that refuses would hold up every delayed message of the virtual host, and what it drops is the
//! oldest of the highest priority.

use crate::publish::state::Publishing;
use crate::topology::lookup::count;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Bound, Error, Overflow, QueueSpec, Result};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::address::NAME;
use crate::topology::records::CatalogueEntry;
use crate::topology::routes::leads;
use crate::wire::names::lives;

/// How often to look whether there is room.
const LOOK: Duration = Duration::from_millis(40);

/// The right to enter a queue, and how many more messages it surely has room for.
pub(crate) struct EntryPermit {
    left: u64,
    _door: OwnedMutexGuard<()>,
}

/// What this broker cannot keep is refused.
pub(crate) fn check(spec: &QueueSpec) -> Result<()> {
    match spec.bound {
        Some(Bound { overflow: Overflow::DropOldest, .. }) => {
            let what = "dropping the oldest message of the lowest priority: the broker drops the highest; use \
                        Reject or Block";
            Err(Error::unsupported(NAME, what))
        }
        _ => Ok(()),
    }
}

/// Waits for one's turn at a queue that has a bound. `None` where there is none.
pub(crate) async fn enter(
    publishing: &Arc<Publishing>,
    entry: &CatalogueEntry,
    by: Instant,
) -> Result<Option<EntryPermit>> {
    if entry.spec.bound.is_none() {
        return Ok(None);
    }
    match timeout_at(by, publishing.locks.of(entry.name()).lock_owned()).await {
        Ok(door) => Ok(Some(EntryPermit { left: 0, _door: door })),
        Err(_) => Err(Error::no_room(entry.name(), publishing.topology.handle.deadline)),
    }
}

/// Sees to it that there is room for one more message.
///
/// # Errors
/// `Full`, or for a bound that blocks a definite `Timeout`.
pub(crate) async fn make_room(
    publishing: &Arc<Publishing>,
    entry: &CatalogueEntry,
    room: &mut EntryPermit,
    by: Instant,
) -> Result<()> {
    let Some(bound) = entry.spec.bound else { return Ok(()) };
    let mut was_full = false;
    while room.left == 0 {
        let looked = Instant::now();
        let object = publishing.topology.names.ready(entry.name());
        let ready = count(&publishing.topology, entry.name(), &object);
        let ready = match publishing.topology.handle.in_time("publish", by, ready).await {
            Err(Error::Timeout { .. }) if was_full => {
                return Err(Error::no_room(entry.name(), publishing.topology.handle.deadline));
            }
            ready => ready?,
        };
        room.left = bound.max_len.saturating_sub(ready);
        if room.left > 0 {
            break;
        }
        check_lives(publishing, entry).await?;
        if bound.overflow == Overflow::Reject {
            let what = format!("queue {}", entry.name());
            return Err(Error::full(what, bound.max_len));
        }
        was_full = true;
        publishing.topology.handle.check_open()?;
        if looked + LOOK >= by {
            sleep_until(by).await;
            return Err(Error::no_room(entry.name(), publishing.topology.handle.deadline));
        }
        sleep_until(looked + LOOK).await;
    }
    Ok(())
}

/// Before it is said that a queue takes nothing: what we know of it may be of a life that has ended.
///
/// # Errors
/// `NotFound` where that is so.
pub(crate) async fn check_lives(publishing: &Arc<Publishing>, entry: &CatalogueEntry) -> Result<()> {
    if leads(&publishing.topology, lives(&entry.address)).await? {
        return Ok(());
    }
    Err(Error::not_found(entry.name().clone()))
}

impl EntryPermit {
    /// A message entered.
    pub(crate) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}
