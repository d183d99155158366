//! What is published in place of a delivery before it is acked: the next copy, or a dead letter.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use polyqueue::{Certainty, DeadReason, DedupUntil, Error, Event, QueueName, Result, Verdict};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::change::Change;
use crate::connection::fault::if_there;
use crate::connection::request::PublishRequest;
use crate::dead::retention::retain_after_death;
use crate::dead::state::DeadLetters;
use crate::delay::request::{begin, make_slot, request, tell_if_slow, waits};
use crate::publish::dedup::{Keeper, release_key_at};
use crate::settle::fetched::Fetched;
use crate::settle::job::{SettleJob, Settlement};
use crate::settle::replacement::{Replacement, Stored};
use crate::topology::routes::{address_now, can_enter, leads};
use crate::topology::state::Topology;
use crate::wire::dead;
use crate::wire::dead::{Death, EXPIRED};
use crate::wire::names::{by_address, lives};
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
                if !self.is_simple(item) {
                    self.release_key(item).await;
                }
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

    /// Frees the dedup key that was claimed for the message, where its queue keeps it.
    async fn release_key(&self, item: &Fetched) {
        if terms::claimed_until(&item.raw.properties).is_some()
            && let Some(address) = item.life.address.clone()
        {
            let keeper = Keeper { queue: self.queue.clone(), address };
            release_key_at(&self.dead.publishing, keeper, &item.message).await;
        }
    }

    /// Whether nothing is to be done before a message is acked.
    pub(crate) fn is_simple(&self, item: &Fetched) -> bool {
        item.message.dedup_key().is_none()
            || terms::claimed_until(&item.raw.properties) != Some(DedupUntil::Ack)
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
                    let stored = item.replacement.begun(handle, by).await;
                    self.heeded(item, stored.and_then(|stored| self.there(stored).map(drop)))
                }
                Err(error) => Err(error),
            });
        }
        renewed
    }

    async fn begin_renewal(&self, item: &Fetched, by: Instant) -> Result<()> {
        let properties = republish::republished(&item.raw, &item.message, item.attempt, None, None);
        let properties = republish::foremost(self.in_time(item, properties, true), item.message.priority());
        let request = self.request(item, Duration::ZERO, properties, item.raw.body.clone()).await?;
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
        let error = error.map(|error| polyqueue::backend::cut_error(error.to_owned()));
        let is_failed = attempt > item.attempt && item.message.max_attempts().is_none();
        let allowed = is_failed.then_some(item.max_attempts);
        let copy = republish::republished(&item.raw, &item.message, attempt, allowed, error.as_deref());
        let properties = self.in_time(item, copy, after.is_zero());
        let stored = async {
            let request = self.request(item, after, properties, item.raw.body.clone()).await?;
            self.store(&item.replacement, request).await
        };
        self.heeded(item, stored.await).map(drop)
    }

    /// What came back goes by name when its delivery comes again: then its queue is there.
    fn heeded<T>(&self, item: &Fetched, stored: Result<T>) -> Result<T> {
        if let (Err(Error::NotFound(_)), Some(address)) = (&stored, item.life.way()) {
            self.topology().note_dead_end(address.clone());
        }
        stored
    }

    /// The request for a copy, for the life that the message is of. What knows no address goes by name, as it came.
    async fn request(
        &self,
        item: &Fetched,
        after: Duration,
        properties: BasicProperties,
        body: Bytes,
    ) -> Result<PublishRequest> {
        let (topology, called) = (self.topology(), std::time::Instant::now());
        if after.is_zero() {
            let (exchange, key) = match item.life.way() {
                Some(address) if can_enter(topology).await? => (topology.names.entry(), by_address(address)),
                _ => (String::new(), topology.names.ready(&self.queue)),
            };
            return Ok(PublishRequest { exchange, key, properties, body });
        }
        let to = match item.life.way() {
            None => address_now(topology, &self.queue).await?,
            Some(address) if leads(topology, lives(address)).await? => address.clone(),
            Some(_) => return Err(Error::not_found(self.queue.clone())),
        };
        let (wheel, handle) = (&self.dead.publishing.wheel, &topology.handle);
        let begun = async { Ok(begin(wheel, called).await) };
        let then = handle.in_time("publish", handle.until(), begun).await?;
        request(wheel, topology, (&self.queue, &to), (then, after), properties, body)
    }

    /// Whether its queue was deleted since, by this handle: then it has gone with it, whatever the verdict.
    fn is_gone(&self, item: &Fetched) -> bool {
        item.life.address.as_ref().is_some_and(|address| self.topology().catalogue.was_deleted_here(address))
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
