//! Making, finding and deleting the broker objects behind one queue.

use std::sync::Arc;

use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use polyqueue::{Certainty, Error, Purge, QueueName, Result};

use crate::PROVIDER_NAME;
use crate::cascade::{self, DUE};
use crate::catalogue::Record;
use crate::core::Core;
use crate::fault::is_missing;
use crate::link::Session;
use crate::publisher::Stored;

/// How old what we read in the catalogue may be, when a delayed message is published by it.
const FRESH: std::time::Duration = std::time::Duration::from_secs(1);

impl Core {
    /// Makes a queue; does nothing where it exists.
    pub(crate) async fn declare(&self, queue: &QueueName) -> Result<()> {
        let session = self.control().await?;
        self.ensure_cascade(&[]).await?;
        self.declare_queues(&session, queue).await?;
        let address = self.settle_address(&session, queue).await?;
        let channel = session.channel().await?;
        channel
            .queue_bind(
                self.names.ready(queue).into(),
                DUE.into(),
                cascade::due_pattern(&address).into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(|e| session.fault(&e))?;
        self.publisher().await?.remember(self.names.ready(queue));
        Ok(())
    }

    async fn declare_queues(&self, session: &Session, queue: &QueueName) -> Result<()> {
        let channel = session.channel().await?;
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let ready =
            channel.queue_declare(self.names.ready(queue).into(), options, self.kind.ready_arguments());
        let dead = channel.queue_declare(self.names.dead(queue).into(), options, self.kind.dead_arguments());
        let (ready, dead) = futures_util::future::join(ready, dead).await;
        ready.and(dead).map(drop).map_err(|e| session.fault(&e))
    }

    /// The queue's address: the one in the catalogue, or a fresh one that is written there.
    async fn settle_address(&self, session: &Session, queue: &QueueName) -> Result<Arc<str>> {
        self.ensure_catalogue(session, false).await?;
        self.catalogue.refresh(session).await?;
        if let Some(address) = self.catalogue.address(queue) {
            return Ok(address);
        }
        let record = Record::declare(queue);
        if let Stored::Unroutable = self.store(self.catalogue.order(&record)).await? {
            self.ensure_catalogue(session, true).await?;
            self.append(&record).await?;
        }
        self.catalogue.refresh(session).await?;
        self.catalogue.address(queue).ok_or_else(|| {
            let said = "the catalogue does not show what was written to it";
            Error::backend(PROVIDER_NAME, Certainty::Unknown, said)
        })
    }

    /// The queue's address for delayed messages.
    ///
    /// # Errors
    /// `NotFound` for a queue that is not in the catalogue.
    pub(crate) async fn address(&self, queue: &QueueName) -> Result<Arc<str>> {
        let known = self.catalogue.address(queue);
        if known.is_none() || !self.catalogue.is_fresh(FRESH) {
            self.catalogue.refresh(&*self.control().await?).await?;
        }
        self.catalogue.address(queue).ok_or_else(|| Error::not_found(queue.clone()))
    }

    /// How many messages are ready in a broker's queue.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    pub(crate) async fn count(&self, queue: &QueueName, object: String) -> Result<u64> {
        let session = self.control().await?;
        let channel = session.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        match channel.queue_declare(object.into(), options, FieldTable::default()).await {
            Ok(found) => Ok(found.message_count().into()),
            Err(error) if is_missing(&error) => Err(Error::not_found(queue.clone())),
            Err(error) => Err(session.fault(&error)),
        }
    }

    /// Says `NotFound` for a queue that is not there; asks once a connection.
    pub(crate) async fn check_exists(&self, queue: &QueueName) -> Result<()> {
        let ready = self.names.ready(queue);
        let publisher = self.publisher().await?;
        if !publisher.knows(&ready) {
            self.address(queue).await?;
            self.count(queue, ready.clone()).await?;
            publisher.remember(ready);
        }
        Ok(())
    }

    /// Deletes a queue with all that is in it or on its way to it.
    pub(crate) async fn delete(&self, queue: &QueueName) -> Result<()> {
        let session = self.control().await?;
        self.catalogue.refresh(&session).await?;
        let Some(address) = self.catalogue.address(queue) else {
            return Err(Error::not_found(queue.clone()));
        };
        // The address first: from here on nothing that is delayed is this queue's.
        self.append(&Record::Delete { queue: queue.to_string(), address: address.clone() }).await?;
        self.catalogue.delete_here(address);
        self.catalogue.refresh(&session).await?;
        self.publisher().await?.forget(&self.names.ready(queue));
        let channel = session.channel().await?;
        for object in [self.names.ready(queue), self.names.dead(queue)] {
            let deleted = channel.queue_delete(object.into(), QueueDeleteOptions::default()).await;
            deleted.map_err(|e| session.fault(&e))?;
        }
        Ok(())
    }

    /// Empties one of a queue's two sides.
    pub(crate) async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        let object = match what {
            Purge::Waiting => self.names.ready(queue),
            Purge::Dead => self.names.dead(queue),
        };
        self.address(queue).await?;
        let session = self.control().await?;
        let channel = session.channel().await?;
        match channel.queue_purge(object.into(), QueuePurgeOptions::default()).await {
            Ok(removed) => Ok(removed.into()),
            Err(error) if is_missing(&error) => Err(Error::not_found(queue.clone())),
            Err(error) => Err(session.fault(&error)),
        }
    }
}
