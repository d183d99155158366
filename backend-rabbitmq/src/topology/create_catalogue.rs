//! The first handle of a namespace makes its catalogue, while all others wait.
//!
//! A stream that is being made answers whoever touches it by ending his connection. So one handle at a time makes it, holding
//! an exclusive queue as a lock, and an exchange of the stream's name says to all others that it can be used.

use crate::topology::state::Topology;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, ExchangeKind};
use polyqueue::{Certainty, Error, Result};

use crate::address::NAME;
use crate::connection::fault::is_taken;
use crate::connection::link::Session;
use crate::connection::request::Confirm;
use crate::topology::catalogue::Catalogue;
use crate::topology::records::Record;

/// How long to wait for another handle before looking again.
const TAKEN: Duration = Duration::from_millis(20);

/// Sees to it that the catalogue can be read and written. `anew`: although it is said to be there.
pub(crate) async fn ensure_catalogue(topology: &Arc<Topology>, session: &Session, anew: bool) -> Result<()> {
    if !anew && topology.catalogue.exists(session).await? {
        return Ok(());
    }
    let _one_at_a_time = topology.creating.lock().await;
    let lock = loop {
        if !anew && topology.catalogue.exists(session).await? {
            return Ok(());
        }
        let channel = session.channel().await?;
        match lock(&channel, &format!("{}.birth", topology.catalogue.name())).await {
            Ok(consumer) => break (channel, consumer),
            Err(error) if is_taken(&error) => tokio::time::sleep(TAKEN).await,
            Err(error) => return Err(session.fault(&error)),
        }
    };
    if anew || !topology.catalogue.exists(session).await? {
        make_catalogue(topology, session).await?;
    }
    let _ = lock.0.close(200, "done".into()).await;
    Ok(())
}

async fn make_catalogue(topology: &Arc<Topology>, session: &Session) -> Result<()> {
    let channel = session.channel().await?;
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let name = topology.catalogue.name();
    let made = channel.queue_declare(name.into(), options, Catalogue::arguments()).await;
    made.map_err(|e| session.fault(&e))?;
    append(topology, &Record::Begin).await?;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let said = channel.exchange_declare(name.into(), ExchangeKind::Fanout, options, FieldTable::default());
    said.await.map_err(|e| session.fault(&e))
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
async fn lock(channel: &Channel, name: &str) -> lapin::Result<Consumer> {
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare(name.into(), options, FieldTable::default()).await?;
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    channel.basic_consume(name.into(), "".into(), options, FieldTable::default()).await
}
