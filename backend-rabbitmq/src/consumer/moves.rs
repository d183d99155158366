//! What is published in place of a delivery before it is acked: the next copy, or a dead letter.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{DeadReason, Error, Result, Settled, Verdict};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Reader;
use super::held::Item;
use super::receipt::Key;
use crate::publisher::{Order, Stored};
use crate::wire::{self, Death, EXPIRED, Raw};

/// What follows when the broker has what was published, and again when it has the ack.
#[derive(Debug)]
pub(super) enum Then {
    /// A verdict is answered.
    Answer { verdict: Verdict, answer: Settled, since: Instant, reply: oneshot::Sender<Result<Settled>> },
    /// A message that came back was filed again.
    Refiled,
    /// A message was moved that nobody asked about.
    Moved,
}

/// A delivery whose replacement has been published, or not.
pub(super) struct Moved {
    pub(super) key: Key,
    pub(super) then: Then,
    pub(super) result: Result<()>,
}

impl Reader {
    /// Publishes the copy or the dead letter that a verdict asks for; `over`: its time to live has ended meanwhile.
    pub(super) async fn apply(&self, item: Arc<Item>, verdict: &Verdict, over: bool) -> Result<()> {
        match verdict {
            _ if self.is_gone(&item) => Ok(()),
            Verdict::Ack => {
                self.release_key(&item).await;
                Ok(())
            }
            Verdict::Retry { .. } if over => self.bury_expired(&item, item.attempt).await,
            Verdict::Release { .. } if over => self.bury_expired(&item, item.attempt - 1).await,
            Verdict::Retry { error, .. } if item.attempt >= item.max_attempts => {
                self.bury_item(&item, self.death(DeadReason::MaxAttempts, error, item.attempt)).await
            }
            Verdict::Retry { after, error } => self.file(&item, item.attempt + 1, *after, Some(error)).await,
            Verdict::Release { after } => self.file(&item, item.attempt, *after, None).await,
            Verdict::DeadLetter { reason, error } => {
                self.bury_item(&item, self.death((*reason).into(), error, item.attempt)).await
            }
        }
    }

    /// What a lease's end makes of a message.
    pub(super) async fn expire(&self, item: Arc<Item>) -> Result<()> {
        if self.is_gone(&item) {
            return Ok(());
        }
        if item.is_over(self.core.now()) {
            return self.bury_expired(&item, item.attempt).await;
        }
        if item.attempt < item.max_attempts {
            return self.file(&item, item.attempt + 1, Duration::ZERO, None).await;
        }
        let death = self.death(DeadReason::MaxAttempts, "the lease of the last attempt ended", item.attempt);
        self.bury_item(&item, death).await
    }

    /// The death of a message that was in hand when its time to live ended.
    async fn bury_expired(&self, item: &Item, attempts: u32) -> Result<()> {
        self.bury_item(item, self.death(DeadReason::Expired, EXPIRED, attempts)).await
    }

    /// Publishes the dead letter of a message.
    pub(super) async fn bury_item(&self, item: &Item, death: Death) -> Result<()> {
        self.bury(&item.raw, death).await?;
        self.release_key(item).await;
        Ok(())
    }

    /// Frees the message's dedup key, when it has one.
    async fn release_key(&self, item: &Item) {
        if item.message.dedup_key().is_some()
            && let Some(entry) = self.core.catalogue.entry(self.queue())
            && item.address.as_ref() == Some(&entry.address)
        {
            self.core.release_key_of(&entry, &item.message).await;
        }
    }

    /// Whether something is to be done before a message is acked.
    pub(super) fn is_simple(&self, item: &Item) -> bool {
        !self.core.is_freed_by_ack(self.queue(), &item.message)
    }

    /// Publishes the message again, for `attempt`.
    pub(super) async fn file(
        &self,
        item: &Item,
        attempt: u32,
        after: Duration,
        error: Option<&str>,
    ) -> Result<()> {
        let error = error.map(|error| polyqueue::cut_error(error.to_owned()));
        let mut properties = wire::again(&item.raw, &item.message, attempt, error.as_deref());
        if let Some(expiry) = &item.expiry {
            let now = self.core.now();
            let left = Some(expiry.left(now)).filter(|_| after.is_zero());
            properties = wire::expiring(properties, expiry.ttl, expiry.end(now), left);
        }
        let body = item.raw.body.clone();
        let mut address = item.address.clone().unwrap_or_default();
        if !after.is_zero() {
            address = self.core.address(self.queue()).await?;
        }
        let order = self.core.order(self.queue(), &address, after, properties, body).await?;
        self.store(order).await
    }

    /// Whether its queue was deleted since, by this handle: then it has gone with it, whatever the verdict.
    pub(super) fn is_gone(&self, item: &Item) -> bool {
        item.address.as_ref().is_some_and(|address| self.core.catalogue.was_deleted_here(address))
    }

    /// Publishes a dead letter.
    pub(super) async fn bury(&self, raw: &Raw, death: Death) -> Result<()> {
        tracing::debug!(name: "rabbitmq.dead_letter", queue = %self.queue(), reason = %death.reason);
        self.store(Order {
            exchange: String::new(),
            key: self.core.names.dead(self.queue()),
            properties: wire::bury(raw, death),
            body: raw.body.clone(),
        })
        .await?;
        self.core.retain_after_death(self.queue()).await;
        Ok(())
    }

    /// A death in this consumer's hands.
    pub(super) fn death(&self, reason: DeadReason, error: &str, attempts: u32) -> Death {
        let consumer = Some(self.subscription.consumer.clone());
        Death { reason, error: error.to_owned(), attempts, consumer, at: self.core.now() }
    }

    async fn store(&self, order: Order) -> Result<()> {
        let stored = tokio::time::timeout(self.core.deadline, self.core.store(order)).await;
        match stored {
            Ok(Ok(Stored::Yes)) => Ok(()),
            Ok(Ok(Stored::Unroutable)) => Err(Error::not_found(self.queue().clone())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::timeout("publish", self.core.deadline, polyqueue::Certainty::Unknown)),
        }
    }
}
