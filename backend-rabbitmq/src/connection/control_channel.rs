//! A channel for commands, whose refusals are told apart.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, ErrorKind, ExchangeKind};
use polyqueue::Certainty::{Definite, Unknown};
use polyqueue::{Certainty, Error, Result};
use tokio::time::{sleep, timeout};

use crate::connection::change::{Change, make};
use crate::connection::fault::Answer;
use crate::connection::queries::{fence, get};
use crate::connection::session::Session;

/// A channel that brings nothing for so long is asked whether it is alive.
const ALIVE: Duration = Duration::from_secs(5);

/// How often to ask for a channel while the broker grants no more.
const FREE: Duration = Duration::from_millis(10);

/// One channel, for one call at a time.
pub(crate) struct ControlChannel {
    session: Arc<Session>,
    channel: Channel,
    limit: Duration,
    /// A call has not come to its end: it is under way, or it failed, or nobody waited for it any more.
    unfinished: AtomicBool,
}

impl ControlChannel {
    pub(crate) async fn open(session: Arc<Session>, limit: Duration) -> Result<Self> {
        let late = |_| Err(Error::timeout("opening a channel", limit, Definite));
        let channel = timeout(limit, free_channel(&session)).await.unwrap_or_else(late)?;
        Ok(Self { session, channel, limit, unfinished: AtomicBool::new(false) })
    }

    /// Another one over the same connection.
    pub(crate) async fn beside(&self) -> Result<Self> {
        Self::open(self.session.clone(), self.limit).await
    }

    /// Whether it can serve another call.
    pub(crate) fn is_fit(&self) -> bool {
        !self.unfinished.load(Relaxed) && self.session.is_alive() && self.channel.status().connected()
    }

    /// Whether it is a channel of this connection.
    pub(crate) fn is_on(&self, session: &Session) -> bool {
        self.session.generation == session.generation
    }

    /// How many messages are ready in a queue. It answers after it has dealt with all that was sent before on this channel.
    pub(crate) async fn messages(&self, queue: &str) -> Answer<u64> {
        self.call("count", Definite, fence(self.channel.clone(), queue.to_owned())).await
    }

    /// How many consumers a queue has.
    pub(crate) async fn consumers(&self, queue: &str) -> Answer<u32> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let found = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        Ok(self.call("count", Definite, found).await?.consumer_count())
    }

    pub(crate) async fn find_exchange(&self, name: &str) -> Answer<()> {
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let none = FieldTable::default();
        let found = self.channel.exchange_declare(name.into(), ExchangeKind::Fanout, options, none);
        self.call("find an exchange", Definite, found).await
    }

    /// All are sent at once; the broker keeps their order.
    pub(crate) async fn change(&self, changes: Vec<Change>) -> Answer<()> {
        let made = join_all(changes.into_iter().map(|change| make(&self.channel, change)));
        self.call("declare", Definite, made.map(|made| made.into_iter().collect())).await
    }

    pub(crate) async fn purge(&self, queue: &str) -> Answer<u64> {
        let purged = self.channel.queue_purge(queue.into(), QueuePurgeOptions::default());
        self.call("purge", Unknown, purged).await.map(u64::from)
    }

    /// Takes up to `max` messages that are ready now.
    pub(crate) async fn get(&self, queue: &str, max: usize) -> Answer<Vec<Delivery>> {
        let got = get(self.channel.clone(), queue.to_owned(), max);
        Ok(self.call("get", Definite, got).await?.0)
    }

    /// How many messages may come to a consumer without an ack.
    pub(crate) async fn prefetch(&self, messages: u16) -> Answer<()> {
        self.call("prefetch", Definite, self.channel.basic_qos(messages, BasicQosOptions::default())).await
    }

    /// Becomes a queue's only consumer.
    pub(crate) async fn consume_alone(self, queue: &str) -> Answer<Deliveries> {
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
        self.consume(queue, options, FieldTable::default()).await
    }

    pub(crate) async fn consume(
        self,
        queue: &str,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> Answer<Deliveries> {
        let begun = self.channel.basic_consume(queue.into(), "".into(), options, arguments);
        let consumer = self.call("consume", Definite, begun).await?;
        Ok(Deliveries { channel: self, consumer })
    }

    /// Removes messages that were taken from a queue, and waits until the broker has done so.
    pub(crate) async fn remove(&self, queue: &str, tags: &[u64]) -> Answer<()> {
        let acks = tags.iter().map(|tag| self.channel.basic_ack(*tag, BasicAckOptions::default()));
        let removed = async {
            try_join_all(acks).await?;
            fence(self.channel.clone(), queue.to_owned()).await
        };
        self.call("remove", Unknown, removed).await.map(drop)
    }

    /// Sends an ack of all up to this one.
    pub(crate) async fn ack_up_to(&self, tag: u64) -> Answer<()> {
        let acked = self.channel.basic_ack(tag, BasicAckOptions { multiple: true });
        self.call("ack", Unknown, acked).await
    }

    /// Gives back what was not acked, and frees what it has for itself; at once, for somebody may wait for it.
    pub(crate) async fn end(self) {
        let closed =
            self.session.answers.unbounded("close a channel", self.channel.close(200, "done".into()));
        let _ = timeout(self.limit, closed).await;
    }

    async fn call<T>(
        &self,
        what: &'static str,
        certainty: Certainty,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Answer<T> {
        self.unfinished.store(true, Relaxed);
        let call = self.session.while_alive(self.session.answers.unbounded(what, call));
        let answer = match timeout(self.limit, call).await {
            Ok(answer) => answer.map_err(|e| self.session.refusal(certainty, &e))?,
            Err(_) => return Err(Error::timeout(what, self.limit, certainty).into()),
        };
        self.unfinished.store(false, Relaxed);
        Ok(answer)
    }
}

/// Where the broker grants a connection few channels, those that were dropped a moment ago are waited for.
async fn free_channel(session: &Session) -> Result<Channel> {
    loop {
        match session.open_channel().await {
            Err(error) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) && session.is_alive() => {
                sleep(FREE).await;
            }
            opened => return opened.map_err(|error| session.fault(&error)),
        }
    }
}

/// What a consumer brings, until its channel ends.
pub(crate) struct Deliveries {
    pub(crate) channel: ControlChannel,
    consumer: Consumer,
}

impl Deliveries {
    /// The next, when there is one.
    pub(crate) async fn next(&mut self) -> Answer<Option<Delivery>> {
        let next = self.consumer.next().await.transpose();
        next.map_err(|e| self.channel.session.refusal(Definite, &e))
    }

    /// The next. While nothing comes from this queue, the channel is asked whether it is alive and the queue there; none where it is
    /// not `wanted` any more.
    pub(crate) async fn next_while_alive(
        &mut self,
        queue: &str,
        wanted: impl Fn(&ControlChannel) -> bool,
    ) -> Answer<Option<Delivery>> {
        loop {
            match timeout(ALIVE, self.next()).await {
                Ok(next) => return next,
                Err(_) if !wanted(&self.channel) => return Ok(None),
                Err(_) => drop(self.channel.messages(queue).await?),
            }
        }
    }

    /// The next, where it is here already.
    pub(crate) fn here(&mut self) -> Answer<Option<Delivery>> {
        self.next().now_or_never().unwrap_or(Ok(None))
    }
}
