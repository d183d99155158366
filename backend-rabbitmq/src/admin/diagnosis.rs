//! What a broker says of itself over AMQP, also one that is not fit for a queue.

use std::sync::Arc;

use polyqueue::backend::EventSender;
use polyqueue::{ConnectOptions, Error, Result};
use tokio::time::{Instant, timeout_at};

use crate::address::Address;
use crate::admin::delays::{Delays, delays};
use crate::admin::remains::remains;
use crate::connection::answered::Answers;
use crate::connection::fault::is_missing;
use crate::connection::link::Link;
use crate::connection::queries::fence;
use crate::wire::delay::LOST;

/// Seconds between heartbeats.
const HEARTBEAT: u16 = 5;

/// What a broker says of itself. Each is known, or the error says why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// Its version, as `3.10.8`.
    pub version: Result<String, String>,
    /// The virtual host that the URL names.
    pub virtual_host: String,
    /// How many delayed messages were due and found no queue for a day: they lie in `polyqueue.lost`.
    pub undeliverable: Result<u64, String>,
    /// What waits until it is due.
    pub delays: Result<Delays, String>,
    /// The objects that are left of how messages were delayed before: nobody uses them.
    pub remains: Result<Vec<String>, String>,
}

/// Asks a broker about itself over a connection of its own.
///
/// # Errors
/// It cannot be reached, or refuses the user.
pub async fn diagnose(options: &ConnectOptions) -> Result<Diagnosis> {
    options.check()?;
    let address = Address::parse(&options.url, &options.tls)?;
    let (virtual_host, by) = (address.uri.vhost.clone(), Instant::now() + options.deadline);
    let link = Link::new(
        address,
        "doctor",
        HEARTBEAT,
        Arc::default(),
        Answers::default(),
        EventSender::new(&options.namespace),
    );
    let session = link.open(by).await?;
    let version = link.version().map(|version| version.to_string());
    let undeliverable = async {
        let channel = session.channel().await?;
        match fence(channel, LOST.into()).await {
            Err(error) if is_missing(&error) => Ok(0),
            counted => counted.map_err(|error| session.fault(&error)),
        }
    };
    let late = || Error::timeout("doctor", options.deadline, polyqueue::Certainty::Definite);
    let undeliverable = timeout_at(by, undeliverable).await.unwrap_or_else(|_| Err(late()));
    let delays = timeout_at(by, delays(&session)).await.unwrap_or_else(|_| Err(late()));
    let remains = timeout_at(by, remains(&session)).await.unwrap_or_else(|_| Err(late()));
    link.close(options.deadline).await;
    Ok(Diagnosis {
        version: version.ok_or("it does not say that it is a RabbitMQ".into()),
        virtual_host,
        undeliverable: undeliverable.map_err(|error| error.to_string()),
        delays: delays.map_err(|error| error.to_string()),
        remains: remains.map_err(|error| error.to_string()),
    })
}
