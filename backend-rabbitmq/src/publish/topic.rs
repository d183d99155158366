//! Messages to topics: through the broker's exchange where that will do, as copies of our own where it will not.

use std::sync::Weak;

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use polyqueue::backend::not_found_if_all;
use polyqueue::{Destination, Error, Message, Published, Result, RoutingKey};
use tokio::time::Instant;

use crate::connection::fault::is_missing;
use crate::connection::handle::Core;
use crate::connection::publisher::{Confirm, PublishRequest};
use crate::topology::records::CatalogueEntry;

impl Core {
    /// Publishes to all queues that are bound to this topic.
    ///
    /// # Errors
    /// `NotFound` when none is.
    pub(crate) async fn publish_to_topic(
        &self,
        key: &RoutingKey,
        batch: &[Message],
        by: Instant,
    ) -> Result<Vec<Result<Published>>> {
        // The exchange knows only now; what waits or is remembered is for the queues that are bound at this moment.
        let exact = batch.iter().any(|message| !message.delay().is_zero() || message.dedup_key().is_some());
        let entries = self.in_time("publish", by, self.matching(key, exact)).await?;
        if exact || entries.iter().any(|entry| entry.spec.bound.is_some()) {
            return self.publish_copies(&Destination::Topic(key.clone()), &entries, batch, by).await;
        }
        self.publish_to_exchange(key, &entries, batch, by).await
    }

    /// The queues that are bound to a topic. `exact`: by all that was confirmed before.
    async fn matching(&self, key: &RoutingKey, exact: bool) -> Result<Vec<CatalogueEntry>> {
        self.read_catalogue(exact).await?;
        Ok(self.catalogue.matching(key))
    }

    /// Sees to it that we know what the catalogue said a moment ago; `exact`: by all that was confirmed before.
    pub(crate) async fn read_catalogue(&self, exact: bool) -> Result<()> {
        if exact || !self.catalogue.is_live() {
            self.up_to_date().await?;
            self.follow_catalogue();
        }
        Ok(())
    }

    async fn publish_to_exchange(
        &self,
        key: &RoutingKey,
        entries: &[CatalogueEntry],
        batch: &[Message],
        by: Instant,
    ) -> Result<Vec<Result<Published>>> {
        let exchange = self.names.topics();
        if !self.in_time("publish", by, self.has_topics(&exchange)).await? {
            return Err(Error::not_found(key));
        }
        let now = self.now();
        let request = |message: &Message| PublishRequest {
            exchange: exchange.clone(),
            key: key.as_str().to_owned(),
            properties: self.properties(message, now),
            body: message.payload().clone(),
        };
        let answers = self.send(batch.iter().map(request).collect(), by).await?;
        let results: Vec<Result<Published>> = answers
            .into_iter()
            .zip(batch)
            .map(|(answer, message)| match answer? {
                Confirm::Stored => Ok(Published::stored(message.id().clone())),
                Confirm::Unroutable => Err(Error::not_found(key)),
            })
            .collect();
        let stored = results.iter().filter(|result| result.is_ok()).count() as u64;
        for entry in entries {
            self.meter.of(entry.name()).published(stored);
        }
        not_found_if_all(results)
    }

    /// Whether any queue was ever bound: asked once a connection.
    async fn has_topics(&self, exchange: &str) -> Result<bool> {
        let publisher = self.publisher().await?;
        if publisher.knows(exchange) {
            return Ok(true);
        }
        let session = self.control().await?;
        let channel = session.channel().await?;
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let asked =
            channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default());
        match asked.await {
            Ok(()) => {
                publisher.remember(exchange.to_owned());
                Ok(true)
            }
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(session.fault(&error)),
        }
    }
}

/// Keeps the catalogue live until the connection ends.
pub(crate) async fn follow(core: Weak<Core>) {
    let Some(core) = core.upgrade() else { return };
    let catalogue = core.catalogue.clone();
    let session = core.control().await;
    // The task must not keep its handle alive.
    drop(core);
    let followed = match session {
        Ok(session) => catalogue.follow(&session).await,
        Err(error) => Err(error),
    };
    if let Err(error) = followed {
        tracing::debug!(name: "rabbitmq.catalogue_not_followed", %error);
    }
}
