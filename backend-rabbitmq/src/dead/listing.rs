//! Dead letters: looked at without a lease, made ready again, or removed.
//!
//! AMQP has no way to look at a queue. So a walk takes the letters one after the other, unacked, on a channel of its own;
//! those that it does not ack lie where they lay when the channel ends. While it lasts nobody else sees them, hence the
//! lock: an exclusive consumer, which the broker grants to one walk at a time and takes back when its channel ends.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use polyqueue::{
    Certainty, Cursor, DeadFilter, DeadId, DeadLetter, DeadPage, Error, Message, MessageId, Page, QueueName,
    Result,
};
use std::sync::Arc;

use crate::connection::fault::{fault, is_missing, is_taken};
use crate::connection::handle::Core;
use crate::connection::link::Session;
use crate::connection::publisher::{Confirm, PublishRequest};
use crate::connection::queries::{fence, get};
use crate::wire::dead;
use crate::wire::decode::AttemptHistory;
use crate::wire::properties::Raw;
use crate::wire::republish;
use crate::wire::terms;

/// Letters that come along with the lock.
const WITH_LOCK: u16 = 32;
/// Letters that are asked for at once after that.
const WINDOW: usize = 256;
/// How long to wait for another walk before asking again.
const TAKEN: Duration = Duration::from_millis(10);

/// A walk over the dead letters of a queue, the oldest first.
pub(crate) struct Browser {
    session: Arc<Session>,
    channel: Channel,
    object: String,
    near: VecDeque<Delivery>,
    lock: Consumer,
    letters: u64,
}

impl Browser {
    pub(crate) async fn begin(core: &Core, queue: &QueueName) -> Result<Self> {
        core.address(queue).await?;
        let session = core.control().await?;
        let object = core.names.dead(queue);
        loop {
            let channel = session.channel().await?;
            match lock(&channel, &object).await {
                Ok((lock, near, letters)) => {
                    return Ok(Self { session, channel, object, near, lock, letters });
                }
                Err(error) if is_taken(&error) => tokio::time::sleep(TAKEN).await,
                Err(error) if is_missing(&error) => return Err(Error::not_found(queue.clone())),
                Err(error) => return Err(session.fault(&error)),
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Delivery>> {
        let taken = self.take().await;
        taken.map_err(|e| self.session.fault(&e))?;
        Ok(self.near.pop_front())
    }

    /// How many letters there were when it began.
    pub(crate) fn letters(&self) -> u64 {
        self.letters
    }

    /// The next letter.
    pub(crate) async fn read_next(&mut self, queue: &QueueName) -> Result<Option<BrowsedLetter>> {
        Ok(self.next().await?.map(|delivery| read(queue, delivery)))
    }

    /// For every letter that is removed the lock brings another.
    async fn take(&mut self) -> lapin::Result<()> {
        drain(&mut self.lock, &mut self.near)?;
        if self.near.is_empty() {
            self.near.extend(get(self.channel.clone(), self.object.clone(), WINDOW).await?.0);
            drain(&mut self.lock, &mut self.near)?;
        }
        Ok(())
    }

    /// Those of these letters that are there.
    async fn find(&mut self, queue: &QueueName, ids: &[DeadId]) -> Result<HashMap<DeadId, BrowsedLetter>> {
        let mut missing: HashSet<&DeadId> = ids.iter().collect();
        let mut found = HashMap::new();
        while !missing.is_empty()
            && let Some(delivery) = self.next().await?
        {
            let letter = read(queue, delivery);
            if missing.remove(&letter.letter.id) {
                found.insert(letter.letter.id.clone(), letter);
            }
        }
        Ok(found)
    }

    /// Removes letters, and waits until the broker has done so.
    pub(crate) async fn remove(&self, core: &Core, tags: &[u64]) -> Result<()> {
        let acks = tags.iter().map(|tag| self.channel.basic_ack(*tag, BasicAckOptions::default()));
        let removed = async {
            futures_util::future::try_join_all(acks).await?;
            fence(self.channel.clone(), self.object.clone()).await
        };
        removed.await.map(drop).map_err(|e| fault(&core.address, Certainty::Unknown, &e))
    }

    /// Gives back what was not removed; at once, for the next walk wants it.
    pub(crate) async fn end(self) {
        let _ = self.channel.close(200, "done".into()).await;
    }
}

/// Also says how many letters there are.
async fn lock(channel: &Channel, object: &str) -> lapin::Result<(Consumer, VecDeque<Delivery>, u64)> {
    channel.basic_qos(WITH_LOCK, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let mut lock = channel.basic_consume(object.into(), "".into(), options, FieldTable::default()).await?;
    let behind = fence(channel.clone(), object.to_owned()).await?;
    let mut near = VecDeque::new();
    drain(&mut lock, &mut near)?;
    let letters = behind + near.len() as u64;
    Ok((lock, near, letters))
}

/// Takes what a consumer has brought.
fn drain(consumer: &mut Consumer, into: &mut VecDeque<Delivery>) -> lapin::Result<()> {
    while let Some(Some(delivery)) = consumer.next().now_or_never() {
        into.push_back(delivery?);
    }
    Ok(())
}

/// A letter on its channel.
pub(crate) struct BrowsedLetter {
    pub(crate) tag: u64,
    pub(crate) letter: DeadLetter,
    lives: AttemptHistory,
    raw: Raw,
}

impl BrowsedLetter {
    /// The message of a letter that the broker filed: its dedup key is still to be freed.
    pub(crate) fn unnoticed(&self) -> Option<Message> {
        let message = self.letter.message().filter(|message| message.dedup_key().is_some());
        message.filter(|_| terms::is_unnoticed(&self.raw.properties)).cloned()
    }
}

fn read(queue: &QueueName, delivery: Delivery) -> BrowsedLetter {
    let raw = Raw { properties: delivery.properties, body: delivery.data.into() };
    let (letter, lives) = dead::read_dead_letter(queue, &raw);
    BrowsedLetter { tag: delivery.delivery_tag, letter, lives, raw }
}

/// Where a listing goes on: after this letter, or, should it be gone, after its time of death.
struct ListingCursor {
    died_ms: i64,
    id: String,
}

impl ListingCursor {
    fn read(cursor: &Cursor) -> Result<Self> {
        let place = cursor
            .as_str()
            .split_once(':')
            .and_then(|(died, id)| Some(Self { died_ms: died.parse().ok()?, id: id.to_owned() }));
        place.ok_or_else(|| Error::invalid("cursor", "allowed is what a page of dead letters brought"))
    }

    fn of(letter: &DeadLetter) -> Cursor {
        Cursor::new(format!("{}:{}", letter.died_at.timestamp_millis(), letter.id))
    }

    fn is(&self, letter: &DeadLetter) -> bool {
        letter.id.as_str() == self.id
    }

    fn is_before(&self, letter: &DeadLetter) -> bool {
        (self.died_ms, self.id.as_str()) < (letter.died_at.timestamp_millis(), letter.id.as_str())
    }
}

impl Core {
    pub(crate) async fn dead_letters(
        &self,
        queue: &QueueName,
        filter: &DeadFilter,
        page: Page,
    ) -> Result<DeadPage> {
        let place = page.after.as_ref().map(ListingCursor::read).transpose()?;
        let entry = self.entry(queue).await?;
        self.retain(&entry).await?;
        let mut unnoticed = Vec::new();
        let mut walk = Browser::begin(self, queue).await?;
        let mut found = place.is_none();
        let (mut after, mut later) = (Vec::new(), Vec::new());
        while after.len() <= page.limit {
            let Some(delivery) = walk.next().await? else { break };
            let found_here = read(queue, delivery);
            unnoticed.extend(found_here.unnoticed());
            let letter = found_here.letter;
            match &place {
                Some(place) if !found && place.is(&letter) => found = true,
                _ if !filter.matches(&letter) => {}
                Some(place) if !found => {
                    if place.is_before(&letter) && later.len() <= page.limit {
                        later.push(letter);
                    }
                }
                _ => after.push(letter),
            }
        }
        walk.end().await;
        if self.keys.are_elsewhere() {
            self.release_keys_of(&entry, &unnoticed).await;
        }
        let mut letters = if found { after } else { later };
        let more = letters.len() > page.limit;
        letters.truncate(page.limit);
        let next = letters.last().filter(|_| more).map(ListingCursor::of);
        Ok(DeadPage { letters, next })
    }

    /// Makes letters ready again, in the order in which they were named, one after the other: published, confirmed, removed.
    /// Whoever dies on the way leaves at most one of them in both places.
    pub(crate) async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        let entry = self.entry(queue).await?;
        self.retain(&entry).await?;
        let mut walk = Browser::begin(self, queue).await?;
        let mut found = walk.find(queue, ids).await?;
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            let letter = found.remove(id);
            answers.push(letter.is_some());
            let Some(found) = letter else { continue };
            self.release_keys_of(&entry, found.unnoticed().as_slice()).await;
            let BrowsedLetter { tag, letter, lives, raw } = found;
            let ttl = letter.message().and_then(Message::ttl);
            let request = PublishRequest {
                exchange: String::new(),
                key: self.names.ready(queue),
                properties: republish::redriven(&raw, lives, letter.attempts, ttl, self.now()),
                body: raw.body,
            };
            match self.store(request).await? {
                Confirm::Stored => walk.remove(self, &[tag]).await?,
                Confirm::Unroutable => return Err(Error::not_found(queue.clone())),
            }
        }
        walk.end().await;
        Ok(answers)
    }

    /// Whether a message lies among the letters that the broker filed and nobody has noticed.
    pub(crate) async fn lies_unnoticed(&self, queue: &QueueName, id: &MessageId) -> Result<bool> {
        let mut walk = Browser::begin(self, queue).await?;
        let mut lies = false;
        while !lies && let Some(found) = walk.read_next(queue).await? {
            lies = found.unnoticed().is_some_and(|message| message.id() == id);
        }
        walk.end().await;
        Ok(lies)
    }

    /// Removes letters for good.
    pub(crate) async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        let mut walk = Browser::begin(self, queue).await?;
        let mut found = walk.find(queue, ids).await?;
        let tags: Vec<u64> = found.values().map(|found| found.tag).collect();
        walk.remove(self, &tags).await?;
        walk.end().await;
        let unnoticed: Vec<Message> = found.values().filter_map(BrowsedLetter::unnoticed).collect();
        self.release_keys_of(&self.entry(queue).await?, &unnoticed).await;
        Ok(ids.iter().map(|id| found.remove(id).is_some()).collect())
    }
}
