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
use crate::connection::control_channel::{ControlChannel, Deliveries};
use crate::connection::fault::{Answer, Refusal, if_there};
use crate::connection::request::Confirm;
use crate::topology::catalogue::Catalogue;
use crate::topology::records::Record;

/// How long to wait for another handle before looking again.
const TAKEN: Duration = Duration::from_millis(20);
/// From this age on the first stream of a node, and with it all others, survives a crash on RabbitMQ 3.10.
const SETTLING: Duration = Duration::from_secs(1);
/// Exists only when there was a stream of that age.
const SETTLED: &str = "polyqueue.streams";

/// Sees to it that the catalogue can be read and written. `anew`: although it is said to be there.
pub(crate) async fn ensure_catalogue(topology: &Arc<Topology>, anew: bool) -> Result<()> {
    let control = topology.handle.control();
    if !anew && topology.catalogue.exists(control).await? {
        return Ok(());
    }
    let _one_at_a_time = topology.creating.lock().await;
    let lock = loop {
        if !anew && topology.catalogue.exists(control).await? {
            return Ok(());
        }
        let channel = control.dedicated().await?;
        match lock(channel, &topology.names.birth()).await {
            Ok(lock) => break lock,
            Err(Refusal::Taken(_)) => tokio::time::sleep(TAKEN).await,
            Err(refusal) => return Err(refusal.into()),
        }
    };
    if anew || !topology.catalogue.exists(control).await? {
        make_catalogue(topology).await?;
    }
    lock.channel.end().await;
    Ok(())
}

async fn make_catalogue(topology: &Arc<Topology>) -> Result<()> {
    let (control, name) = (topology.handle.control(), topology.catalogue.name().to_owned());
    let stream = Change::Queue { name: name.clone(), arguments: Catalogue::arguments() };
    control.change(vec![stream]).await?;
    append(topology, &Record::Begin).await?;
    let said = |name| Change::Exchange { name, kind: ExchangeKind::Fanout, arguments: FieldTable::default() };
    if if_there(control.find_exchange(SETTLED).await)?.is_none() {
        tokio::time::sleep(SETTLING).await;
        control.change(vec![said(SETTLED.to_owned())]).await?;
    }
    Ok(control.change(vec![said(name)]).await?)
}

/// Appends a record.
pub(crate) async fn append(topology: &Arc<Topology>, record: &Record) -> Result<()> {
    match topology.handle.store(topology.catalogue.request(record)).await? {
        Confirm::Stored => Ok(()),
        Confirm::Unroutable => Err(Error::unavailable(
            NAME,
            Certainty::Definite,
            "the catalogue's stream is gone: declare a queue again",
        )),
    }
}

/// Holds the lock as long as the channel lives: the queue is this connection's alone and goes with its consumer.
async fn lock(channel: ControlChannel, name: &str) -> Answer<Deliveries> {
    channel.change(vec![Change::OwnQueue { name: name.to_owned() }]).await?;
    channel.consume_alone(name).await
}
