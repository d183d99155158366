//! The first handle of a namespace makes its catalogue, while all others wait.
//!
//! A stream that is being made answers whoever touches it by ending his connection. So one handle at a time makes it, holding
//! an exclusive queue as a lock, and an exchange of the stream's name says to all others that it can be used.

use crate::topology::state::Topology;
use std::sync::Arc;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use polyqueue::{Certainty, Error, Result};

use crate::address::NAME;
use crate::connection::change::Change;
use crate::connection::fault::if_there;
use crate::connection::request::Confirm;
use crate::topology::catalogue::Catalogue;
use crate::topology::records::Record;
use crate::topology::turn::Turn;

/// From this age on the first stream of a node, and with it all others, survives a crash on RabbitMQ 3.10.
const SETTLING: Duration = Duration::from_secs(1);
/// Exists only when there was a stream of that age.
const SETTLED: &str = "polyqueue.streams";

/// Sees to it that the catalogue can be read and written; `anew`: although it is said to be there.
async fn ensure_catalogue(topology: &Arc<Topology>, anew: bool) -> Result<()> {
    let _one_at_a_time = topology.creating.lock().await;
    let turn = loop {
        if !anew && is_ready(topology).await? {
            return Ok(());
        }
        if let Some(turn) = Turn::try_take(topology, &topology.names.birth()).await? {
            break turn;
        }
    };
    let made = match is_ready(topology).await? && is_there(topology).await? {
        true => Ok(()), // by another, meanwhile
        false => make_catalogue(topology).await,
    };
    turn.end().await;
    made
}

/// Says again of a stream that it can be read and written, where nothing does so any more. Answers whether it is there.
///
/// # Errors
/// `Denied` for who may not say it.
pub(crate) async fn announce_again(topology: &Arc<Topology>) -> Result<bool> {
    let _one_at_a_time = topology.creating.lock().await;
    let Some(turn) = Turn::try_take(topology, &topology.names.birth()).await? else { return Ok(false) };
    let announced = async {
        let is_there = is_there(topology).await?;
        if is_there {
            topology.handle.control().change(vec![announcement(topology.catalogue.name())]).await?;
        }
        Ok(is_there)
    };
    let announced = announced.await;
    turn.end().await;
    announced
}

fn announcement(name: &str) -> Change {
    Change::Exchange { name: name.to_owned(), kind: ExchangeKind::Fanout, arguments: FieldTable::default() }
}

/// Whether it is said that the stream can be read and written.
async fn is_ready(topology: &Topology) -> Result<bool> {
    Ok(if_there(topology.handle.control().find_exchange(topology.catalogue.name()).await)?.is_some())
}

/// Whether the stream is there. Only for who has the turn: whoever touches one that is being made loses his connection.
async fn is_there(topology: &Topology) -> Result<bool> {
    Ok(if_there(topology.handle.control().messages(topology.catalogue.name()).await)?.is_some())
}

async fn make_catalogue(topology: &Arc<Topology>) -> Result<()> {
    let (control, name) = (topology.handle.control(), topology.catalogue.name().to_owned());
    let stream = Change::Queue { name: name.clone(), arguments: Catalogue::arguments() };
    control.change(vec![stream]).await?;
    let stream = Some(uuid::Uuid::new_v4().simple().to_string());
    if let Confirm::Unroutable = store(topology, &Record::Begin { stream }).await? {
        let said = "the catalogue's stream is gone again: declare a queue again";
        return Err(Error::unavailable(NAME, Certainty::Definite, said));
    }
    if if_there(control.find_exchange(SETTLED).await)?.is_none() {
        tokio::time::sleep(SETTLING).await;
        control.change(vec![announcement(SETTLED)]).await?;
    }
    Ok(control.change(vec![announcement(&name)]).await?)
}

async fn store(topology: &Topology, record: &Record) -> Result<Confirm> {
    topology.handle.store(topology.catalogue.request(record)).await
}

/// Appends a record, to a new stream where there is none.
pub(crate) async fn append(topology: &Arc<Topology>, record: &Record) -> Result<()> {
    if !topology.catalogue.is_live() {
        ensure_catalogue(topology, false).await?;
    }
    if let Confirm::Unroutable = store(topology, record).await? {
        ensure_catalogue(topology, true).await?;
        if let Confirm::Unroutable = store(topology, record).await? {
            let said = "the catalogue's stream is gone again: declare a queue again";
            return Err(Error::unavailable(NAME, Certainty::Definite, said));
        }
    }
    Ok(())
}
