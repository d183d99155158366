//! The catalogue, read to its end and as it is written from then on.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::background;
use polyqueue::{Certainty, Error, Result};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::connection::fault::Refusal;
use crate::topology::create_catalogue::announce_again;
use crate::topology::known::KnownQueues;
use crate::topology::read_catalogue::{SILENT, follow, fresh_mark, read, write_mark};
use crate::topology::state::{Topology, Watcher};

/// How long to wait for others who read.
const TURN: Duration = Duration::from_secs(30);
/// For how long a broker is asked again that could not show its catalogue, and how often.
const JUST_STARTED: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);

/// Sees to it that we know what the catalogue said a moment ago; `exact`: by all that was confirmed before.
pub(crate) async fn read_catalogue(topology: &Arc<Topology>, exact: bool) -> Result<()> {
    if exact || !topology.catalogue.is_live() {
        up_to_date(topology).await?;
    }
    Ok(())
}

/// Reads the catalogue to its end: whatever was confirmed before is known afterwards. A broker that has just started may answer such
/// a question by ending the connection; since reading changes nothing, it is asked again.
pub(crate) async fn up_to_date(topology: &Arc<Topology>) -> Result<()> {
    let until = Instant::now() + JUST_STARTED;
    loop {
        match refresh(topology).await {
            Ok(()) => {
                topology.catalogue.note_readable();
                return after_a_loss(topology).await;
            }
            Err(error) if error.is_transient() && Instant::now() < until => {
                tracing::debug!(name: "rabbitmq.catalogue_unread", %error, "the catalogue could not be read");
                sleep(AGAIN).await;
            }
            Err(error) => {
                topology.catalogue.note_unreadable(topology.handle.control().generation());
                return Err(error);
            }
        }
    }
}

/// The same for who can do without it. One that could not be read over this connection is waited for no more, until it can. Answers
/// whether it was read.
pub(crate) async fn read_if_readable(topology: &Arc<Topology>) -> bool {
    if !topology.catalogue.is_unreadable(topology.handle.control().generation()) {
        return learn(topology, true).await.unwrap_or(false);
    }
    if topology.catalogue.turn.try_lock().is_ok() {
        drop(learn(topology, true));
    }
    false
}

/// Begins to read the catalogue; without `exact`, where it is not followed yet. What is lost later is known then.
pub(crate) fn learn(topology: &Arc<Topology>, exact: bool) -> JoinHandle<bool> {
    let topology = topology.clone();
    background().spawn(async move {
        let handle = topology.handle.clone();
        tokio::select! {
            () = handle.closed() => false,
            read = read_catalogue(&topology, exact) => read.is_ok(),
        }
    })
}

/// What was seen on a connection is not there any more where the broker has lost everything since.
async fn after_a_loss(topology: &Arc<Topology>) -> Result<()> {
    if topology.forget_what_was_lost() {
        topology.handle.publisher().await?.forget_all();
    }
    Ok(())
}

async fn refresh(topology: &Arc<Topology>) -> Result<()> {
    let (asked, catalogue) = (Instant::now(), &topology.catalogue);
    let late = |_| Error::timeout("a turn at the catalogue", TURN, Certainty::Definite);
    let _turn = timeout(TURN, catalogue.turn.lock()).await.map_err(late)?;
    if catalogue.read_at().is_some_and(|begun| begun > asked) {
        return Ok(()); // somebody has read since
    }
    let begun = Instant::now();
    if !(catalogue.is_live() && is_read_to_its_end(topology).await?) {
        begin(topology).await?;
    }
    catalogue.was_read(begun);
    if let Some(snapshot) = catalogue.due_snapshot() {
        topology.handle.store(snapshot).await?;
    }
    Ok(())
}

/// Whether who follows has come to a mark that is written now.
async fn is_read_to_its_end(topology: &Topology) -> Result<bool> {
    let by = fresh_mark();
    let came = topology.catalogue.await_mark(&by);
    let written = write_mark(&topology.handle, &topology.catalogue, by.clone()).await;
    let came = match written {
        Ok(()) => timeout(SILENT, came).await,
        Err(refusal) => {
            topology.catalogue.forget_mark(&by);
            return if let Refusal::Missing(_) = refusal { Ok(false) } else { Err(refusal.into()) };
        }
    };
    topology.catalogue.forget_mark(&by);
    let late = |_| Error::timeout("reading the catalogue", SILENT, Certainty::Definite);
    Ok(came.map_err(late)?.is_ok())
}

/// Reads it anew, and follows it.
async fn begin(topology: &Arc<Topology>) -> Result<()> {
    let catalogue = &topology.catalogue;
    let mut read_now = read(&topology.handle, catalogue).await?;
    if read_now.is_none() && catalogue.looks_for_stream(topology.handle.control().generation()) {
        let is_there = announce_again(topology).await;
        if let Err(error) = &is_there {
            tracing::debug!(name: "rabbitmq.catalogue_not_announced", %error, "whether there is a catalogue of which nothing says so is not known");
        }
        if is_there.unwrap_or(false) {
            read_now = read(&topology.handle, catalogue).await?;
        }
    }
    let Some((known, reader)) = read_now else {
        catalogue.replace(KnownQueues::default());
        return Ok(());
    };
    catalogue.replace(known);
    let (following, weak) = (catalogue.begin_live(), Arc::downgrade(topology));
    // The task must not keep its handle alive.
    let is_current = move |channel: &_| {
        weak.upgrade().is_some_and(|topology| topology.handle.control().is_current(channel))
    };
    let follower = Watcher::spawn(topology, follow(following, reader, is_current));
    *topology.follower.lock() = Some(follower);
    Ok(())
}
