//! Publishes that need care: a copy for each queue, each with its own delay, key and bound.

use crate::delay::request::{begin, publish_again, request, tell_if_slow, waits};
use crate::publish::backpressure::{check_lives, enter, has_room, wait_for_room};
use crate::publish::call_time::CallTime;
use crate::publish::dedup::{claim, release_key_of};
use crate::publish::outcome::{Outcome, summed};
use crate::publish::state::Publishing;
use crate::topology::follow::read_catalogue;
use crate::topology::routes::{can_enter, leads};
use crate::topology::state::Topology;
use futures_util::FutureExt;
use polyqueue::{Certainty, Destination, Error, Message, MessageId, Published, QueueName, Result};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection::publisher::Publisher;
use crate::connection::request::{Confirm, PublishRequest};
use crate::publish::backpressure::EntryPermit;
use crate::publish::requests::properties;
use crate::topology::records::CatalogueEntry;
use crate::wire::names::{by_address, lives};
use crate::wire::terms::claimed;
use polyqueue::backend::{no_dedup_keys, not_found_if_all};

/// What the broker is still to answer.
type Answer = oneshot::Receiver<Result<Confirm>>;

/// The queue, when publishing this batch to it needs care.
///
/// # Errors
/// `NotFound` when it is not there.
pub(crate) async fn careful(
    publishing: &Arc<Publishing>,
    queue: &QueueName,
    batch: &[Message],
) -> Result<Option<CatalogueEntry>> {
    let topology = &publishing.topology;
    if !can_enter(topology).await? {
        return Err(Error::not_found(queue.clone()));
    }
    if batch.iter().all(|message| message.dedup_key().is_none()) {
        return Ok(topology.catalogue.entry(queue).filter(CatalogueEntry::is_careful));
    }
    if topology.catalogue.entry(queue).is_none() {
        read_catalogue(topology, false).boxed().await?;
    }
    topology.catalogue.entry(queue).map(Some).ok_or_else(|| Error::not_found(queue.clone()))
}

/// Publishes one copy of each message to each of these queues, with all that they are declared to do.
///
/// # Errors
/// `NotFound` when there are none, `Invalid` for a dedup key when none of them keeps keys.
pub(crate) async fn publish_copies(
    publishing: &Arc<Publishing>,
    to: &Destination,
    entries: &[CatalogueEntry],
    batch: &[Message],
    &CallTime { began, by }: &CallTime,
) -> Result<Vec<Result<Published>>> {
    if entries.is_empty() {
        return Err(Error::not_found(to.clone()));
    }
    check_keys(to, entries, batch)?;
    let mut then = began;
    let is_delayed = batch.iter().any(|message| !message.delay().is_zero());
    let alive;
    let publisher = async {
        if is_delayed {
            then = begin(&publishing.wheel, began).await;
        }
        if !can_enter(&publishing.topology).await? {
            return Err(Error::not_found(to.clone()));
        }
        publishing.topology.handle.publisher().await
    };
    let publisher = publishing.topology.handle.in_time("publish", by, publisher).await?;
    publishing.topology.handle.check_open()?;
    let mut entries = entries;
    if is_delayed {
        let living = living(&publishing.topology, entries);
        alive = publishing.topology.handle.in_time("publish", by, living).await?;
        entries = &alive;
    }
    if entries.is_empty() {
        return Err(Error::not_found(to.clone()));
    }
    let mut copier = FanOut { publishing, publisher, to, entries, then, by, rooms: Vec::new() };
    let results = match copier.enter_where_it_counts(batch).await {
        Ok(()) => copier.publish(batch).await,
        Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
    };
    not_found_if_all(results)
}

/// Those of the queues that are there: what waits for one that has ended comes to nobody.
async fn living(topology: &Arc<Topology>, entries: &[CatalogueEntry]) -> Result<Vec<CatalogueEntry>> {
    let asked = entries.iter().map(|entry| leads(topology, lives(&entry.address)));
    let answers = futures_util::future::try_join_all(asked).await?;
    Ok(entries.iter().zip(answers).filter(|(_, lives)| *lives).map(|(entry, _)| entry.clone()).collect())
}

/// A key means nothing to a queue that keeps none.
fn check_keys(to: &Destination, entries: &[CatalogueEntry], batch: &[Message]) -> Result<()> {
    let index = batch.iter().position(|message| message.dedup_key().is_some());
    match index {
        Some(index) if entries.iter().all(|entry| entry.spec.dedup.is_none()) => {
            Err(no_dedup_keys(to).at(index))
        }
        _ => Ok(()),
    }
}

/// One batch on its way to its queues.
struct FanOut<'a> {
    publishing: &'a Arc<Publishing>,
    publisher: Publisher,
    to: &'a Destination,
    entries: &'a [CatalogueEntry],
    /// When the delays began.
    then: std::time::Instant,
    by: Instant,
    /// For each queue, when it has a bound that counts for this batch; fewer while one was waited for.
    rooms: Vec<Option<EntryPermit>>,
}

/// What one queue is asked.
enum Claimed {
    /// It is to have a copy.
    Wanted,
    /// It has this message already.
    Held(MessageId),
}

impl Claimed {
    fn is_wanted(&self) -> bool {
        matches!(self, Self::Wanted)
    }
}

/// What was sent, and when; where it is delayed, into which slot.
struct Sent {
    answer: Answer,
    slot: Option<String>,
    at: Instant,
}

/// One copy on its way.
enum Copy {
    Sent(Sent),
    Duplicate(MessageId),
}

impl FanOut<'_> {
    /// Waits for one's turn where a bound counts.
    async fn enter_where_it_counts(&mut self, batch: &[Message]) -> Result<()> {
        if batch.iter().any(|message| message.delay().is_zero()) {
            return self.enter(batch.len() as u64).await;
        }
        self.rooms.extend(self.entries.iter().map(|_| None));
        Ok(())
    }

    /// Waits for one's turn at each queue, for so many messages.
    async fn enter(&mut self, messages: u64) -> Result<()> {
        self.rooms.clear();
        for entry in self.entries {
            let room = enter(self.publishing, entry, self.by).await;
            self.rooms.push(self.refused(entry, messages, room)?);
        }
        Ok(())
    }

    /// Counts what an error refuses.
    fn refused<T>(&self, entry: &CatalogueEntry, messages: u64, answer: Result<T>) -> Result<T> {
        answer.inspect_err(|_| self.publishing.topology.handle.meter.of(entry.name()).refused(messages))
    }

    async fn publish(&mut self, batch: &[Message]) -> Vec<Result<Published>> {
        let one_by_one = self.rooms.iter().any(Option::is_some);
        let mut results = Vec::with_capacity(batch.len());
        let mut sent = Vec::with_capacity(batch.len());
        for message in batch {
            let begun = self.begin(message).await;
            if one_by_one {
                results.push(self.finish(message, begun).await);
            } else {
                sent.push((message, begun));
            }
        }
        for (message, begun) in sent {
            results.push(self.finish(message, begun).await);
        }
        results
    }

    /// Claims, finds room, and sends. After an error nothing was sent.
    async fn begin(&mut self, message: &Message) -> Result<Vec<Copy>> {
        let mut claims = Vec::with_capacity(self.entries.len());
        let ready = async {
            self.claim_all(message, &mut claims).await?;
            self.make_room(message, &claims).await?;
            self.requests(message, &claims)
        };
        match ready.await {
            Ok(requests) => {
                let mut copies = Vec::with_capacity(requests.len());
                for request in requests {
                    copies.push(match request {
                        Ok(request) => {
                            let slot = waits(&request).then(|| request.key.clone());
                            let answer = self.publisher.publish(request, self.by).await;
                            Copy::Sent(Sent { answer, slot, at: Instant::now() })
                        }
                        Err(first) => Copy::Duplicate(first),
                    });
                }
                Ok(copies)
            }
            Err(error) => {
                self.release(message, &claims).await;
                Err(error)
            }
        }
    }

    async fn claim_all(&self, message: &Message, claims: &mut Vec<Claimed>) -> Result<()> {
        for entry in self.entries {
            let held = match (entry.spec.dedup, message.dedup_key()) {
                (Some(dedup), Some(key)) => {
                    let claim = claim(self.publishing, entry, dedup, message, key);
                    let held = self.publishing.topology.handle.in_time("publish", self.by, claim).await?;
                    if held.is_some() {
                        check_lives(self.publishing, entry).await?;
                    }
                    held
                }
                _ => None,
            };
            claims.push(held.map_or(Claimed::Wanted, Claimed::Held));
        }
        Ok(())
    }

    async fn make_room(&mut self, message: &Message, claims: &[Claimed]) -> Result<()> {
        if !message.delay().is_zero() {
            return Ok(());
        }
        loop {
            if self.rooms.len() < self.entries.len() {
                self.enter(1).await?;
            }
            match self.full(claims).await? {
                Some(full) => self.wait_at(full).await?,
                None => break,
            }
        }
        for (room, _) in self.rooms.iter_mut().zip(claims).filter(|(_, claim)| claim.is_wanted()) {
            room.iter_mut().for_each(EntryPermit::take);
        }
        Ok(())
    }

    /// The first of those that are to have a copy and have no room.
    async fn full(&mut self, claims: &[Claimed]) -> Result<Option<usize>> {
        for index in (0..self.entries.len()).filter(|index| claims[*index].is_wanted()) {
            let Some(mut room) = self.rooms[index].take() else { continue };
            let found = has_room(self.publishing, &self.entries[index], &mut room, self.by).await;
            self.rooms[index] = Some(room);
            if !self.refused(&self.entries[index], 1, found)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Waits for room at one door alone, and leaves that, too: whoever publishes to the others does not wait for it.
    async fn wait_at(&mut self, full: usize) -> Result<()> {
        let rooms = &mut self.rooms;
        if let Some(mut room) = rooms[full].take() {
            if rooms.len() > 1 {
                rooms.clear();
            }
            let entry = &self.entries[full];
            let waited = wait_for_room(self.publishing, entry, &mut room, self.by).await;
            if let Some(place) = self.rooms.get_mut(full) {
                *place = Some(room);
            }
            self.refused(entry, 1, waited)?;
        }
        Ok(())
    }

    fn requests(
        &self,
        message: &Message,
        claims: &[Claimed],
    ) -> Result<Vec<std::result::Result<PublishRequest, MessageId>>> {
        let mut requests = Vec::with_capacity(claims.len());
        for (entry, claim) in self.entries.iter().zip(claims) {
            if let Claimed::Held(first) = claim {
                requests.push(Err(first.clone()));
                continue;
            }
            requests.push(Ok(self.request(message, entry)?));
        }
        Ok(requests)
    }

    fn request(&self, message: &Message, entry: &CatalogueEntry) -> Result<PublishRequest> {
        let topology = &self.publishing.topology;
        let (mut properties, body) = (properties(message, topology.handle.now()), message.payload().clone());
        if let Some(dedup) = entry.spec.dedup.filter(|_| message.dedup_key().is_some()) {
            properties = claimed(properties, dedup.until);
        }
        if message.delay().is_zero() {
            let (exchange, key) = (topology.names.entry(), by_address(&entry.address));
            return Ok(PublishRequest { exchange, key, properties, body });
        }
        let (to, wait) = ((entry.name(), &*entry.address), (self.then, message.delay()));
        request(&self.publishing.wheel, topology, to, wait, properties, body)
    }

    /// What is delayed and came back found no slot: it is published again when that is made.
    async fn again(&self, message: &Message, entry: &CatalogueEntry) -> Result<Confirm> {
        let requests = vec![self.request(message, entry)?];
        let again = publish_again(&self.publishing.wheel, &self.publisher, requests, self.by);
        let again = async { Ok(again.await) };
        let answers = self.publishing.topology.handle.in_time("publish", self.by, again).await?;
        answers.into_iter().next().unwrap_or(Ok(Confirm::Unroutable))
    }

    /// An answer, and whoever moves is told where it came late.
    async fn answered(&self, message: &Message, entry: &CatalogueEntry, sent: Sent) -> Result<Confirm> {
        let answer = self.publishing.topology.handle.answered(sent.answer, self.by).await;
        if let Some(slot) = sent.slot {
            tell_if_slow(&self.publishing.wheel, &self.publisher, sent.at, [slot]).await;
            if let Ok(Confirm::Unroutable) = answer {
                return self.again(message, entry).await;
            }
        }
        answer
    }

    /// Gives back what was claimed for a message that was not sent.
    async fn release(&self, message: &Message, claims: &[Claimed]) {
        for (entry, claim) in self.entries.iter().zip(claims) {
            if matches!(claim, Claimed::Wanted) {
                release_key_of(self.publishing, entry, message).await;
            }
        }
    }

    async fn finish(&self, message: &Message, begun: Result<Vec<Copy>>) -> Result<Published> {
        let mut outcomes = Vec::with_capacity(self.entries.len());
        for (copy, entry) in begun?.into_iter().zip(self.entries) {
            outcomes.push(self.outcome(message, entry, copy).await);
        }
        summed(self.to, message, outcomes)
    }

    async fn outcome(&self, message: &Message, entry: &CatalogueEntry, copy: Copy) -> Outcome {
        let meter = self.publishing.topology.handle.meter.of(entry.name());
        let outcome = match copy {
            Copy::Duplicate(first) => {
                meter.published(1);
                meter.duplicates(1);
                return Outcome::Duplicate(first);
            }
            Copy::Sent(sent) => match self.answered(message, entry, sent).await {
                Ok(Confirm::Stored) => {
                    meter.published(1);
                    return Outcome::Stored;
                }
                Ok(Confirm::Unroutable) => Outcome::Gone,
                Err(error) => Outcome::Failed(error),
            },
        };
        let is_definite = match &outcome {
            Outcome::Failed(error) => error.certainty() == Certainty::Definite,
            _ => true,
        };
        if is_definite {
            release_key_of(self.publishing, entry, message).await;
        }
        outcome
    }
}
