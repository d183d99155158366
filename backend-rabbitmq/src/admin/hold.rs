//! How long the broker lets a message be held, found out by holding one.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use polyqueue::backend::EventSender;
use polyqueue::{Certainty, ConnectOptions, Error, Result};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::address::Address;
use crate::connection::answered::Answers;
use crate::connection::hold_limit::HoldLimit;
use crate::connection::link::Link;
use crate::connection::session::Session;

/// Seconds between heartbeats.
const HEARTBEAT: u16 = 5;
/// How often a broker looks, and some more.
const LOOKS: Duration = Duration::from_secs(65);
/// How often it is asked for a message that was just published.
const ASK: Duration = Duration::from_millis(50);

/// Holds a message of its own, in a queue of its own, for as long as a lease lasts and a minute more, in which a broker looks: no
/// API tells its `consumer_timeout`. The answer is what it allows, where that is less.
///
/// # Errors
/// It cannot be reached, or refuses the user what it takes.
pub async fn hold_limit(options: &ConnectOptions, lease: Duration) -> Result<Option<Duration>> {
    options.check()?;
    let address = Address::parse(&options.url, &options.tls)?;
    let limit = HoldLimit::default();
    let (answers, events) = (Answers::default(), EventSender::new(&options.namespace));
    let link =
        Link::new(address, "doctor", HEARTBEAT, Arc::default(), answers, events).learning(limit.clone());
    let by = Instant::now() + options.deadline;
    let session = link.open(by).await?;
    let late = |_| Err(Error::timeout("doctor", options.deadline, Certainty::Definite));
    let held = timeout_at(by, take(&session)).await.unwrap_or_else(late);
    if held.is_ok() {
        let _ = timeout(lease.saturating_add(LOOKS), ended(&session, &limit)).await;
    }
    link.close(options.deadline).await;
    held.map(|_| limit.known().filter(|limit| *limit <= lease))
}

/// A message that nobody acknowledges; it goes with its channel.
async fn take(session: &Session) -> Result<Channel> {
    let channel = session.channel().await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let taken = async {
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?.name().clone();
        let to = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("".into(), queue.clone(), to.0, b"held", to.1).await?;
        while channel.basic_get(queue.clone(), BasicGetOptions::default()).await?.is_none() {
            sleep(ASK).await;
        }
        Ok(())
    };
    taken.await.map_err(|error: lapin::Error| session.fault(&error))?;
    Ok(channel)
}

async fn ended(session: &Session, limit: &HoldLimit) {
    let mut errors = session.errors();
    while limit.known().is_none() && session.is_alive() {
        if errors.changed().await.is_err() {
            return;
        }
    }
}
