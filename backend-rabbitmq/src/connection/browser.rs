//! Looking at dead letters without a lease.
//!
//! AMQP has no way to look at a queue. So a walk takes the letters one after the other, unacked, on a channel of its own;
//! those that it does not ack lie where they lay when the channel ends. While it lasts nobody else sees them, hence the
//! lock: an exclusive consumer, which the broker grants to one walk at a time and takes back when its channel ends.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use polyqueue::{DeadId, Error, QueueName, Result};

use crate::connection::fault::{is_missing, is_taken};
use crate::connection::link::Session;
use crate::connection::queries::{fence, get};
use crate::wire::browsed::{BrowsedLetter, read};

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
    pub(crate) async fn begin(session: Arc<Session>, queue: &QueueName, object: String) -> Result<Self> {
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

    pub(crate) async fn next(&mut self) -> Result<Option<Delivery>> {
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
    pub(crate) async fn find(
        &mut self,
        queue: &QueueName,
        ids: &[DeadId],
    ) -> Result<HashMap<DeadId, BrowsedLetter>> {
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
    pub(crate) async fn remove(&self, tags: &[u64]) -> Result<()> {
        let acks = tags.iter().map(|tag| self.channel.basic_ack(*tag, BasicAckOptions::default()));
        let removed = async {
            futures_util::future::try_join_all(acks).await?;
            fence(self.channel.clone(), self.object.clone()).await
        };
        removed.await.map(drop).map_err(|e| self.session.unknown(&e))
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
