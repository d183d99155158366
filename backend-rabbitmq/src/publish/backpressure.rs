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
    match timeout_at(by, publishing.doors.of(entry.name().clone()).lock_owned()).await {
        Ok(door) => Ok(Some(EntryPermit { left: 0, _door: door })),
        Err(_) => Err(Error::no_room(entry.name(), publishing.topology.handle.deadline)),
    }
}

/// Whether there is room for one more message; looks where that is not known.
///
/// # Errors
/// `Full`, for a bound that does not wait.
pub(crate) async fn has_room(
    publishing: &Arc<Publishing>,
    entry: &CatalogueEntry,
    room: &mut EntryPermit,
    by: Instant,
) -> Result<bool> {
    let Some(bound) = entry.spec.bound else { return Ok(true) };
    if room.left == 0 {
        let object = publishing.topology.names.ready(entry.name());
        let ready = count(&publishing.topology, entry.name(), &object);
        let ready = publishing.topology.handle.in_time("publish", by, ready).await?;
        room.left = bound.max_len.saturating_sub(ready);
    }
    if room.left > 0 {
        return Ok(true);
    }
    check_lives(publishing, entry).await?;
    match bound.overflow {
        Overflow::Reject => Err(Error::full(format!("queue {}", entry.name()), bound.max_len)),
        _ => Ok(false),
    }
}

/// Waits until there is room in a queue that was full.
///
/// # Errors
/// A definite `Timeout`.
pub(crate) async fn wait_for_room(
    publishing: &Arc<Publishing>,
    entry: &CatalogueEntry,
    room: &mut EntryPermit,
    by: Instant,
) -> Result<()> {
    let no_room = || Error::no_room(entry.name(), publishing.topology.handle.deadline);
    loop {
        publishing.topology.handle.check_open()?;
        let next = Instant::now() + LOOK;
        sleep_until(next.min(by)).await;
        if next >= by {
            return Err(no_room());
        }
        match has_room(publishing, entry, room, by).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(Error::Timeout { .. }) => return Err(no_room()),
            Err(error) => return Err(error),
        }
    }
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
