//! Looking at dead letters without a lease.
//!
//! AMQP has no way to look at a queue. So a walk takes the letters one after the other, unacked, on a channel of its own;
//! those that it does not ack lie where they lay when the channel ends. While it lasts nobody else sees them, hence the
//! lock: an exclusive consumer, which the broker grants to one walk at a time and takes back when its channel ends.
//!
//! For each ack the broker looks at all that lies before it on its channel. So what is passed over lies on many channels, a thousand
//! or some on each.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use futures_util::future::join_all;
use lapin::message::Delivery;
use polyqueue::{DeadId, Error, QueueName, Result};

use crate::address::NAME;
use crate::connection::control::Control;
use crate::connection::control_channel::{ControlChannel, Deliveries};
use crate::connection::fault::{Answer, Refusal};
use crate::wire::browsed::{BrowsedLetter, Tag, read};

/// Letters that come along with the lock.
const WITH_LOCK: u16 = 32;
/// Letters that are asked for at once after that, while they are small.
const WINDOW: usize = 256;
/// How many bytes those may be, by the largest seen so far.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// How many letters lie on one channel; twice as many for each so many channels.
const ON_A_CHANNEL: u64 = 1_000;
const CHANNELS: usize = 100;
/// How many letters are read before one is found.
const FARTHEST: u64 = 100_000;
/// How long to wait for another walk before asking again.
const TAKEN: Duration = Duration::from_millis(10);

/// A walk over the dead letters of a queue, the oldest first.
pub(crate) struct Browser {
    object: String,
    near: VecDeque<(Tag, Delivery)>,
    lock: Deliveries,
    /// Those that read behind the lock, the last of them now.
    readers: Vec<Reader>,
    letters: u64,
    read: u64,
    removed: u64,
    largest: usize,
}

/// A channel, and how many letters lie on it.
struct Reader {
    channel: ControlChannel,
    holds: u64,
}

impl Browser {
    pub(crate) async fn begin(control: &Control, queue: &QueueName, object: String) -> Result<Self> {
        loop {
            let channel = control.dedicated().await?;
            match lock(channel, &object).await {
                Ok((lock, near, letters)) => {
                    let readers = Vec::new();
                    return Ok(Self {
                        object,
                        near,
                        lock,
                        readers,
                        letters,
                        read: 0,
                        removed: 0,
                        largest: 1,
                    });
                }
                Err(Refusal::Taken(_)) => tokio::time::sleep(TAKEN).await,
                Err(Refusal::Missing(_)) => return Err(Error::not_found(queue.clone())),
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    /// The next letter.
    pub(crate) async fn read_next(&mut self, queue: &QueueName) -> Result<Option<BrowsedLetter>> {
        self.take().await?;
        let Some((tag, delivery)) = self.near.pop_front() else { return Ok(None) };
        self.read += 1;
        self.largest = self.largest.max(delivery.data.len());
        Ok(Some(read(queue, tag, delivery)))
    }

    /// How many letters it has read.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// How many of them lie where they lay.
    pub(crate) fn passed(&self) -> u64 {
        self.read.saturating_sub(self.removed)
    }

    /// Whether its channel can serve another call.
    pub(crate) fn is_fit(&self) -> bool {
        self.lock.channel.is_fit() && self.readers.iter().all(|reader| reader.channel.is_fit())
    }

    /// How many letters it keeps from everybody else. What the broker sends after an ack, it has sent when it has answered twice.
    pub(crate) async fn in_hand(&mut self) -> Result<u64> {
        for _ in 0..2 {
            self.lock.channel.messages(&self.object).await?;
        }
        drain(&mut self.lock, &mut self.near)?;
        Ok(self.read + self.near.len() as u64 - self.removed)
    }

    /// Refuses to read further for a letter that lies somewhere.
    ///
    /// # Errors
    /// `Unsupported` when too many were read.
    pub(crate) fn check_farthest(&self) -> Result<()> {
        self.check_far(self.read)
    }

    /// Refuses at once to read to a letter that lay behind so many, where there are so many.
    ///
    /// # Errors
    /// `Unsupported` when these are too many.
    pub(crate) fn check_far(&self, behind: u64) -> Result<()> {
        if behind.min(self.letters) < FARTHEST {
            return Ok(());
        }
        let what = format!(
            "dead letters behind {FARTHEST} others: the broker shows a queue from its head only; redrive or discard by a filter \
             without ids, which reads each letter once (`polyqueue dead redrive QUEUE --reason …`, `dead discard`)"
        );
        Err(Error::unsupported(NAME, what))
    }

    /// How many letters there were when it began.
    pub(crate) fn letters(&self) -> u64 {
        self.letters
    }

    /// For every letter that is removed the lock brings another.
    async fn take(&mut self) -> Result<()> {
        drain(&mut self.lock, &mut self.near)?;
        if self.near.is_empty() {
            let window = (WINDOW_BYTES / self.largest).clamp(1, WINDOW);
            let channel = self.reader().await?;
            let got = self.readers[channel].channel.get(&self.object, window).await?;
            self.readers[channel].holds += got.len() as u64;
            self.near
                .extend(got.into_iter().map(|it| (Tag { reader: Some(channel), tag: it.delivery_tag }, it)));
            drain(&mut self.lock, &mut self.near)?;
        }
        Ok(())
    }

    /// The channel that has room for more.
    async fn reader(&mut self) -> Result<usize> {
        let readers = self.readers.len();
        let room = ON_A_CHANNEL << (readers / CHANNELS).min(16);
        if self.readers.last().is_none_or(|last| last.holds >= room) {
            let channel = self.lock.channel.beside().await?;
            self.readers.push(Reader { channel, holds: 0 });
        }
        Ok(self.readers.len() - 1)
    }

    /// Those of these letters that are there.
    pub(crate) async fn find(
        &mut self,
        queue: &QueueName,
        ids: &[DeadId],
    ) -> Result<HashMap<DeadId, BrowsedLetter>> {
        let mut missing: HashSet<&DeadId> = ids.iter().collect();
        let mut found = HashMap::new();
        while !missing.is_empty()
            && let Some(letter) = self.read_next(queue).await?
        {
            self.check_farthest()?;
            if missing.remove(&letter.letter.id) {
                found.insert(letter.letter.id.clone(), letter);
            }
        }
        Ok(found)
    }

    /// Removes letters, and waits until the broker has done so.
    pub(crate) async fn remove(&mut self, tags: &[Tag]) -> Result<()> {
        let mut by_reader: BTreeMap<Option<usize>, Vec<u64>> = BTreeMap::new();
        for tag in tags {
            by_reader.entry(tag.reader).or_default().push(tag.tag);
        }
        for (reader, tags) in by_reader {
            let reader = reader.and_then(|nth| self.readers.get_mut(nth));
            let count = tags.len() as u64;
            match reader {
                Some(reader) => {
                    reader.channel.remove(&self.object, &tags).await?;
                    reader.holds -= count;
                }
                None => self.lock.channel.remove(&self.object, &tags).await?,
            }
            self.removed += count;
        }
        Ok(())
    }

    /// Gives back what was not removed.
    pub(crate) async fn end(self) {
        join_all(self.readers.into_iter().map(|reader| reader.channel.end())).await;
        self.lock.channel.end().await;
    }
}

/// Also says how many letters there are.
async fn lock(channel: ControlChannel, object: &str) -> Answer<(Deliveries, VecDeque<(Tag, Delivery)>, u64)> {
    channel.prefetch(WITH_LOCK).await?;
    let mut lock = channel.consume_alone(object).await?;
    let behind = lock.channel.messages(object).await?;
    let mut near = VecDeque::new();
    drain(&mut lock, &mut near)?;
    let letters = behind + near.len() as u64;
    Ok((lock, near, letters))
}

/// Takes what a consumer has brought.
fn drain(lock: &mut Deliveries, into: &mut VecDeque<(Tag, Delivery)>) -> Answer<()> {
    while let Some(delivery) = lock.here()? {
        into.push_back((Tag { reader: None, tag: delivery.delivery_tag }, delivery));
    }
    Ok(())
}
