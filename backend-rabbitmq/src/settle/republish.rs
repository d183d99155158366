//! What is published in place of a delivery before it is acked: the next copy, or a dead letter.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use polyqueue::{Certainty, DeadReason, Error, Event, QueueName, Result, Verdict};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::change::Change;
use crate::connection::fault::if_there;
use crate::connection::request::PublishRequest;
use crate::dead::retention::retain_after_death;
use crate::dead::state::DeadLetters;
use crate::delay::request::{begin, make_slot, request, tell_if_slow, waits};
use crate::publish::dedup::{is_freed_by_ack, release_key_of};
use crate::settle::fetched::Fetched;
use crate::settle::job::{SettleJob, Settlement};
use crate::settle::replacement::{Replacement, Stored};
use crate::topology::lookup::address;
use crate::topology::state::Topology;
use crate::wire::dead;
use crate::wire::dead::{Death, EXPIRED};
use crate::wire::properties::Raw;
use crate::wire::republish;
use crate::wire::terms;

/// What takes the place of one consumer's deliveries.
pub(crate) struct Republisher {
    pub(crate) dead: Arc<DeadLetters>,
    pub(crate) queue: QueueName,
    pub(crate) consumer: String,
}

impl Republisher {
    pub(crate) fn topology(&self) -> &Arc<Topology> {
        &self.dead.publishing.topology
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.topology().handle.now()
    }

    /// Publishes what is to be published before a delivery is acked.
    pub(crate) async fn publish(&self, settlement: &Settlement) -> Result<()> {
        match settlement {
            Settlement::Verdict(SettleJob { item, .. }, _) | Settlement::LeaseEnd(item)
                if self.is_gone(item) =>
            {
                Ok(())
            }
            Settlement::Verdict(job, over) => self.apply(&job.item, &job.verdict, *over).await,
            Settlement::LeaseEnd(item) => {
                self.retry(item, Duration::ZERO, None, item.is_over(self.now())).await
            }
            Settlement::Recovery(item) | Settlement::Release(item) => {
                self.republish(item, item.attempt, Duration::ZERO, None).await
            }
            Settlement::Renewal(item) => self.renew(std::slice::from_ref(item)).await.pop().unwrap_or(Ok(())),
            Settlement::DeadLetter(item, death) => self.died_by_itself(item, death.clone()).await,
            Settlement::Undecodable(raw, death) => {
                let event = Event::SetAside { queue: self.queue.clone(), detail: death.error.clone() };
                self.dead_letter(raw, &Replacement::default(), death.clone()).await.map(|_| self.tell(event))
            }
        }
    }

    /// Publishes the dead letter of a message that no verdict was about, and tells whoever listens.
    async fn died_by_itself(&self, item: &Fetched, death: Death) -> Result<()> {
        let id = item.message.id().clone();
        let event = Event::DeadLetter { queue: self.queue.clone(), id, reason: death.reason };
        if self.dead_letter_fetched(item, death).await? == Stored::Now {
            self.tell(event);
        }
        Ok(())
    }

    fn tell(&self, event: Event) {
        self.topology().handle.events.send(event);
    }

    /// Publishes the copy or the dead letter that a verdict asks for; `over`: its time to live has ended meanwhile.
    async fn apply(&self, item: &Fetched, verdict: &Verdict, over: bool) -> Result<()> {
        match verdict {
            Verdict::Ack => {
                self.release_key(item).await;
                Ok(())
            }
            Verdict::Retry { after, error } => self.retry(item, *after, Some(error), over).await,
            Verdict::Release { .. } if over => self.dead_letter_expired(item, item.attempt - 1).await,
            Verdict::Release { after } => self.republish(item, item.attempt, *after, None).await,
            Verdict::DeadLetter { reason, error } => {
                let death = self.death((*reason).into(), error, item.attempt);
                self.dead_letter_fetched(item, death).await.map(drop)
            }
        }
    }

    /// Publishes the next attempt, if there is one; without an error when it was the lease that ended.
    async fn retry(&self, item: &Fetched, after: Duration, error: Option<&str>, over: bool) -> Result<()> {
        if over {
            return self.dead_letter_expired(item, item.attempt).await;
        }
        if item.attempt < item.max_attempts {
            return self.republish(item, item.attempt + 1, after, error).await;
        }
        let death = |error| self.death(DeadReason::MaxAttempts, error, item.attempt);
        match error {
            Some(error) => self.dead_letter_fetched(item, death(error)).await.map(drop),
            None => self.died_by_itself(item, death("the lease of the last attempt ended")).await,
        }
    }

    /// The death of a message that was in hand when its time to live ended.
    async fn dead_letter_expired(&self, item: &Fetched, attempts: u32) -> Result<()> {
        self.died_by_itself(item, self.death(DeadReason::Expired, EXPIRED, attempts)).await
    }

    /// Publishes the dead letter of a message.
    async fn dead_letter_fetched(&self, item: &Fetched, death: Death) -> Result<Stored> {
        let stored = self.dead_letter(&item.raw, &item.replacement, death).await?;
        if stored == Stored::Now {
            self.release_key(item).await;
        }
        Ok(stored)
    }

    /// Frees the message's dedup key, when it has one.
    async fn release_key(&self, item: &Fetched) {
        if item.message.dedup_key().is_some()
            && let Some(entry) = self.topology().catalogue.entry(&self.queue)
            && item.address.as_ref() == Some(&entry.address)
        {
            release_key_of(&self.dead.publishing, &entry, &item.message).await;
        }
    }

    /// Whether something is to be done before a message is acked.
    pub(crate) fn is_simple(&self, item: &Fetched) -> bool {
        !is_freed_by_ack(&self.dead.publishing, &self.queue, &item.message)
    }

    /// Publishes the same attempts again, before all others and in this order.
    pub(crate) async fn renew(&self, items: &[Arc<Fetched>]) -> Vec<Result<()>> {
        let handle = &self.topology().handle;
        let by = handle.until();
        let mut begun = Vec::with_capacity(items.len());
        for item in items {
            begun.push(self.begin_renewal(item, by).await);
        }
        let mut renewed = Vec::with_capacity(items.len());
        for (item, begun) in items.iter().zip(begun) {
            renewed.push(match begun {
                Ok(()) => {
                    item.replacement.begun(handle, by).await.and_then(|stored| self.there(stored).map(drop))
                }
                Err(error) => Err(error),
            });
        }
        renewed
    }

    async fn begin_renewal(&self, item: &Fetched, by: Instant) -> Result<()> {
        let properties = republish::republished(&item.raw, &item.message, item.attempt, None, None);
        let properties = republish::foremost(self.in_time(item, properties, true), item.message.priority());
        let (key, body) = (self.topology().names.ready(&self.queue), item.raw.body.clone());
        let request = PublishRequest { exchange: String::new(), key, properties, body };
        item.replacement.begin(&self.topology().handle, request, by).await
    }

    /// The properties of a copy with what is left of the message's time to live, which the broker is to count where it is there at
    /// `once`.
    fn in_time(&self, item: &Fetched, properties: BasicProperties, once: bool) -> BasicProperties {
        let Some(expiry) = &item.expiry else { return properties };
        let now = self.now();
        terms::expiring(properties, expiry.ttl, expiry.end(now), once.then(|| expiry.left_for_a_copy(now)))
    }

    /// Publishes the message again, for `attempt`.
    async fn republish(
        &self,
        item: &Fetched,
        attempt: u32,
        after: Duration,
        error: Option<&str>,
    ) -> Result<()> {
        let mut then = std::time::Instant::now();
        let error = error.map(|error| polyqueue::backend::cut_error(error.to_owned()));
        let is_failed = attempt > item.attempt && item.message.max_attempts().is_none();
        let allowed = is_failed.then_some(item.max_attempts);
        let copy = republish::republished(&item.raw, &item.message, attempt, allowed, error.as_deref());
        let properties = self.in_time(item, copy, after.is_zero());
        let body = item.raw.body.clone();
        let mut to = item.address.clone().unwrap_or_default();
        if !after.is_zero() {
            to = address(self.topology(), &self.queue).await?;
            let (handle, begun) = (&self.topology().handle, begin(&self.dead.publishing.wheel));
            then = handle.in_time("publish", handle.until(), async { Ok(begun.await) }).await?;
        }
        let wheel = &self.dead.publishing.wheel;
        let request = request(wheel, self.topology(), (&self.queue, &to), (then, after), properties, body)?;
        self.store(&item.replacement, request).await.map(drop)
    }

    /// Whether its queue was deleted since, by this handle: then it has gone with it, whatever the verdict.
    fn is_gone(&self, item: &Fetched) -> bool {
        item.address.as_ref().is_some_and(|address| self.topology().catalogue.was_deleted_here(address))
    }

    /// Publishes a dead letter.
    async fn dead_letter(&self, raw: &Raw, replacement: &Replacement, death: Death) -> Result<Stored> {
        let reason = death.reason;
        let request = PublishRequest {
            exchange: String::new(),
            key: self.topology().names.dead(&self.queue),
            properties: dead::dead_letter(raw, death),
            body: raw.body.clone(),
        };
        let stored = match self.store(replacement, request.clone()).await {
            Err(Error::NotFound(_)) if self.has_dead_letters_again().await => {
                self.store(replacement, request).await?
            }
            stored => stored?,
        };
        if stored == Stored::Now {
            tracing::debug!(name: "rabbitmq.dead_letter", queue = %self.queue, %reason, "wrote a dead letter");
            retain_after_death(&self.dead, &self.queue).await;
        }
        Ok(stored)
    }

    /// Declares the queue of dead letters again that somebody has deleted beside its queue. Answers whether it is there.
    async fn has_dead_letters_again(&self) -> bool {
        let (topology, queue) = (self.topology(), &self.queue);
        let control = topology.handle.control();
        let declared = async {
            let ready = if_there(control.messages(&topology.names.ready(queue)).await)?;
            let (name, arguments) = (topology.names.dead(queue), topology.queue_type(queue).dead_arguments());
            if ready.is_some() {
                control.change(vec![Change::Queue { name, arguments }]).await?;
            }
            Ok::<bool, Error>(ready.is_some())
        };
        declared.await.unwrap_or(false)
    }

    /// A death in this consumer's hands.
    fn death(&self, reason: DeadReason, error: &str, attempts: u32) -> Death {
        let consumer = Some(self.consumer.clone());
        Death { reason, error: error.to_owned(), attempts, consumer, at: self.now() }
    }

    async fn store(&self, replacement: &Replacement, request: PublishRequest) -> Result<Stored> {
        let (wheel, handle) = (&self.dead.publishing.wheel, &self.topology().handle);
        let Some(again) = waits(&request).then(|| request.clone()) else {
            let stored = replacement.store(handle, request, handle.until()).await?;
            return self.there(stored);
        };
        let (began, slot) = (Instant::now(), again.key.clone());
        let mut stored = replacement.store(handle, request, handle.until()).await?;
        if stored.is_none() {
            make_slot(wheel, &slot).await?;
            stored = replacement.store(handle, again, handle.until()).await?;
        }
        if let Ok(publisher) = handle.publisher().await {
            tell_if_slow(wheel, &publisher, began, [slot]).await;
        }
        stored.ok_or_else(|| Error::unavailable(NAME, Certainty::Definite, "a slot of the wheel is missing"))
    }

    /// What stands in a delivery's place, where its queue is there.
    fn there(&self, stored: Option<Stored>) -> Result<Stored> {
        stored.ok_or_else(|| Error::not_found(self.queue.clone()))
    }
}
