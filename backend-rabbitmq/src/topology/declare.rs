//! Making, finding and deleting the broker objects behind one queue.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};
use polyqueue::{Certainty, Error, Pattern, QueueName, QueueSpec, Result};
use tokio::time::{Instant, sleep};

use crate::address::NAME;
use crate::connection::fault::is_missing;
use crate::connection::handle::Core;
use crate::connection::link::Session;
use crate::connection::publisher::Confirm;
use crate::connection::queries::fence;
use crate::topology::delay_queues::{self, DUE};
use crate::topology::records::{CatalogueEntry, Record};

/// How old what we read in the catalogue may be, when a delayed message is published by it.
const FRESH: Duration = Duration::from_secs(1);

/// For how long a broker is asked again that could not show its catalogue, and how often.
const JUST_STARTED: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);

impl Core {
    /// Makes a queue, or adds bindings to the one that is there.
    ///
    /// # Errors
    /// `Invalid` when it is there and was declared to be something else.
    pub(crate) async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        let session = self.up_to_date().await?;
        if self.catalogue.is_unread() {
            self.ensure_catalogue(&session, false).await?;
            self.catalogue.refresh(&session).await?;
        }
        let spec = &kept(spec);
        let listed = self.catalogue.entry(&spec.name);
        if let Some(existing) = &listed {
            spec.check_redeclared(&existing.spec)?;
        }
        self.ensure_delay_queues(&[]).await?;
        let channel = session.channel().await?;
        let mut steps = self.declare_steps(&channel, spec);
        let entry = match listed {
            Some(entry) => entry,
            None => {
                done(&session, std::mem::take(&mut steps)).await?;
                self.list(&session, spec).await?
            }
        };
        steps.extend(self.bind_steps(&channel, spec, &entry));
        done(&session, steps).await?;
        self.declare_keys(&session, &entry).await?;
        self.list_bindings(&entry, spec).await?;
        self.publisher().await?.remember(self.names.ready(&spec.name));
        Ok(())
    }

    /// What makes a queue's objects.
    fn declare_steps<'a>(&self, channel: &'a Channel, spec: &QueueSpec) -> Vec<Step<'a>> {
        let (ready, dead) = (self.names.ready(&spec.name), self.names.dead(&spec.name));
        let arguments = [self.kind.ready_arguments(&dead), self.kind.dead_arguments()];
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let declare = |(name, arguments): (String, FieldTable)| {
            channel.queue_declare(name.into(), options, arguments).map_ok(drop).boxed()
        };
        [ready, dead].into_iter().zip(arguments).map(declare).collect()
    }

    /// What binds a queue to its address and its topics.
    fn bind_steps<'a>(
        &self,
        channel: &'a Channel,
        spec: &QueueSpec,
        entry: &CatalogueEntry,
    ) -> Vec<Step<'a>> {
        let (ready, topics) = (self.names.ready(&spec.name), self.names.topics());
        let bind = |exchange: &str, pattern: &str| {
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(ready.as_str().into(), exchange.into(), pattern.into(), options, none).boxed()
        };
        let mut steps = vec![bind(DUE, &delay_queues::due_pattern(&entry.address))];
        if !spec.bindings.is_empty() {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let (name, none) = (topics.as_str().into(), FieldTable::default());
            steps.push(channel.exchange_declare(name, ExchangeKind::Topic, options, none).boxed());
        }
        steps.extend(spec.bindings.iter().map(|pattern| bind(&topics, pattern.as_str())));
        steps
    }

    /// Writes a queue into the catalogue and answers what it says then: another's declaration may have come first.
    async fn list(&self, session: &Session, spec: &QueueSpec) -> Result<CatalogueEntry> {
        let record = Record::declare(spec);
        if let Confirm::Unroutable = self.store(self.catalogue.request(&record)).await? {
            self.ensure_catalogue(session, true).await?;
            self.append(&record).await?;
        }
        self.catalogue.refresh(session).await?;
        let entry = self.catalogue.entry(&spec.name).ok_or_else(|| {
            let said = "the catalogue does not show what was written to it";
            Error::backend(NAME, Certainty::Unknown, said)
        })?;
        spec.check_redeclared(&entry.spec)?;
        Ok(entry)
    }

    /// Writes the bindings that are new into the catalogue.
    async fn list_bindings(&self, entry: &CatalogueEntry, spec: &QueueSpec) -> Result<()> {
        let new: Vec<_> = spec.bindings.difference(&entry.spec.bindings).cloned().collect();
        for pattern in new {
            let (queue, address) = (spec.name.to_string(), entry.address.clone());
            self.list_binding(Record::Bind { queue, address, pattern }).await?;
        }
        Ok(())
    }

    /// Writes a record about a binding, and acts by it at once: what it says does not depend on what others write.
    async fn list_binding(&self, record: Record) -> Result<()> {
        self.append(&record).await?;
        self.catalogue.apply(record);
        Ok(())
    }

    /// Removes a binding, here and in the catalogue.
    pub(crate) async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        let session = self.up_to_date().await?;
        let entry = self.catalogue.entry(queue).ok_or_else(|| Error::not_found(queue.clone()))?;
        if !entry.spec.bindings.contains(pattern) {
            return Ok(());
        }
        let channel = session.channel().await?;
        let (ready, topics) = (self.names.ready(queue), self.names.topics());
        let (key, none) = (pattern.as_str().into(), FieldTable::default());
        match channel.queue_unbind(ready.into(), topics.into(), key, none).await {
            Err(error) if !is_missing(&error) => return Err(session.fault(&error)),
            Ok(()) | Err(_) => {}
        }
        let (queue, address) = (queue.to_string(), entry.address);
        self.list_binding(Record::Unbind { queue, address, pattern: pattern.clone() }).await
    }

    /// A connection, with the catalogue read over it to its end. A broker that has just started may answer such a question by
    /// ending the connection; since reading changes nothing, it is asked again.
    pub(crate) async fn up_to_date(&self) -> Result<Arc<Session>> {
        let until = Instant::now() + JUST_STARTED;
        loop {
            let session = self.control().await?;
            match self.catalogue.refresh(&session).await {
                Ok(()) => return Ok(session),
                Err(error) if error.is_transient() && Instant::now() < until => {
                    tracing::debug!(name: "rabbitmq.catalogue_unread", %error);
                    sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A queue, as the catalogue had it a moment ago.
    ///
    /// # Errors
    /// `NotFound` for a queue that is not in the catalogue.
    pub(crate) async fn entry(&self, queue: &QueueName) -> Result<CatalogueEntry> {
        let known = self.catalogue.entry(queue);
        if known.is_none() || !self.catalogue.is_fresh(FRESH) {
            self.up_to_date().await?;
        }
        self.catalogue.entry(queue).ok_or_else(|| Error::not_found(queue.clone()))
    }

    /// The queue's address for delayed messages.
    ///
    /// # Errors
    /// `NotFound` for a queue that is not in the catalogue.
    pub(crate) async fn address(&self, queue: &QueueName) -> Result<Arc<str>> {
        self.entry(queue).await.map(|entry| entry.address)
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
        let session = self.up_to_date().await?;
        let Some(entry) = self.catalogue.entry(queue) else {
            return Err(Error::not_found(queue.clone()));
        };
        let address = entry.address.clone();
        // The address first: from here on nothing that is delayed is this queue's.
        self.append(&Record::Delete { queue: queue.to_string(), address: address.clone() }).await?;
        self.catalogue.delete_here(address);
        self.catalogue.refresh(&session).await?;
        self.publisher().await?.forget(&self.names.ready(queue));
        self.detach(&session, queue, &entry).await?;
        let channel = session.channel().await?;
        for object in [self.names.ready(queue), self.names.dead(queue)] {
            let deleted = channel.queue_delete(object.into(), QueueDeleteOptions::default()).await;
            deleted.map_err(|e| session.fault(&e))?;
        }
        self.delete_keys(&session, &entry).await
    }

    /// Sees to it that nothing delayed comes to a queue any more, and that all that has come is confirmed. What comes while the
    /// queue ends would hold one of the few places of its delay for three minutes.
    async fn detach(&self, session: &Session, queue: &QueueName, entry: &CatalogueEntry) -> Result<()> {
        let channel = session.channel().await?;
        let (ready, key) = (self.names.ready(queue), delay_queues::due_pattern(&entry.address));
        let steps = async {
            let (name, key) = (ready.as_str().into(), key.as_str().into());
            channel.queue_unbind(name, DUE.into(), key, FieldTable::default()).await?;
            channel.queue_purge(ready.as_str().into(), QueuePurgeOptions::default()).await?;
            fence(channel.clone(), ready.clone()).await
        };
        match steps.await {
            Err(error) if !is_missing(&error) => Err(session.fault(&error)),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// One command to the broker.
type Step<'a> = BoxFuture<'a, lapin::Result<()>>;

/// Waits for commands that were given at once; the broker keeps their request.
async fn done(session: &Session, steps: Vec<Step<'_>>) -> Result<()> {
    let done = futures_util::future::join_all(steps).await;
    done.into_iter().collect::<lapin::Result<()>>().map_err(|e| session.fault(&e))
}

/// A specification as the catalogue keeps it: times in whole milliseconds.
fn kept(spec: &QueueSpec) -> QueueSpec {
    let json = serde_json::to_value(spec);
    json.and_then(serde_json::from_value).unwrap_or_else(|_| spec.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_declared_twice_is_compared_as_it_is_kept() {
        let spec = QueueSpec::new(QueueName::from_static("q")).dead_max_age(Duration::from_micros(1500));
        assert!(kept(&spec).check_redeclared(&kept(&kept(&spec))).is_ok());
        assert_eq!(kept(&spec).dead.max_age, Some(Duration::from_millis(1)));
    }
}
