//! How a channel's messages leave: their replacement is published where there is one, then they are acked.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use polyqueue::{Certainty, Error, QueueMeter, Result, Settled, Verdict};

use crate::address::NAME;
use crate::connection::queries::fence;
use crate::settle::fetched::Fetched;
use crate::settle::job::{Leases, SettleJob};
use crate::settle::receipt::Key;
use crate::settle::republish::Republisher;
use crate::settle::unacked::UnackedTags;
use crate::wire::dead::Death;
use crate::wire::properties::Raw;

/// How many flushes may be on their way at a time.
const MAX_FLUSHES: usize = 2;
/// How many leases that end at once are dealt with at a time: fresh messages need the same connection.
const MAX_REPLACEMENTS: usize = 64;

/// The messages of one channel that are leaving.
pub(crate) struct Acks {
    republisher: Arc<Republisher>,
    meter: Arc<QueueMeter>,
    channel: Channel,
    unacked: UnackedTags,
    replacements: FuturesUnordered<BoxFuture<'static, Replacement>>,
    /// How many of the replacements are for messages that came back.
    recovering: usize,
    /// What can be acked.
    ackable: Vec<(Key, AfterAck)>,
    flushes: FuturesUnordered<BoxFuture<'static, Flush>>,
}

/// What follows when the broker has what was published, and again when it has the ack.
enum AfterAck {
    /// A verdict is answered.
    Answer(SettleJob, Settled),
    /// A message that came back was published again.
    Recovered,
    /// A message was replaced that nobody asked about.
    Nothing,
}

/// A delivery whose replacement has been published, or not.
struct Replacement {
    key: Key,
    then: AfterAck,
    result: Result<()>,
}

/// Acks that were sent, and whether the broker has them.
struct Flush {
    result: lapin::Result<()>,
    acked: Vec<(Key, AfterAck)>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckEvent {
    /// The broker has some acks.
    Acked,
    /// A replacement is published, or its verdict failed.
    Replaced,
    /// Nothing could be published: the broker gets the message back.
    Returned,
}

impl Acks {
    pub(crate) fn new(republisher: Arc<Republisher>, meter: Arc<QueueMeter>, channel: Channel) -> Self {
        Self {
            republisher,
            meter,
            channel,
            unacked: UnackedTags::default(),
            replacements: FuturesUnordered::new(),
            recovering: 0,
            ackable: Vec::new(),
            flushes: FuturesUnordered::new(),
        }
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.replacements.is_empty() && self.ackable.is_empty() && self.flushes.is_empty()
    }

    /// Whether messages that came back are being published again.
    pub(crate) fn is_recovering(&self) -> bool {
        self.recovering > 0
    }

    /// How many more leases may end now.
    pub(crate) fn capacity(&self) -> usize {
        MAX_REPLACEMENTS.saturating_sub(self.replacements.len())
    }

    /// The broker waits for an ack of this one.
    pub(crate) fn received(&mut self, tag: u64) {
        self.unacked.delivered(tag);
    }

    /// Carries out a verdict.
    pub(crate) fn settle(&mut self, job: SettleJob) {
        let over = job.item.is_over(self.republisher.now());
        let answer = job.answer(over);
        if job.verdict == Verdict::Ack && self.republisher.is_simple(&job.item) {
            self.ackable.push((job.key, AfterAck::Answer(job, answer)));
            return;
        }
        let republisher = self.republisher.clone();
        let apply = async move {
            let result = republisher.apply(&job.item, &job.verdict, over).await;
            Replacement { key: job.key, then: AfterAck::Answer(job, answer), result }
        };
        self.replacements.push(apply.boxed());
    }

    /// Does what the end of its lease makes of a message.
    pub(crate) fn expire(&mut self, key: Key, item: Arc<Fetched>) {
        tracing::debug!(name: "rabbitmq.lease_ended", queue = %self.republisher.queue, attempt = item.attempt);
        self.replace(key, AfterAck::Nothing, |by| async move { by.expire(&item).await });
    }

    /// Publishes a message again that came back.
    pub(crate) fn recover(&mut self, key: Key, item: Arc<Fetched>) {
        self.recovering += 1;
        self.republish(key, AfterAck::Recovered, item);
    }

    /// Publishes a message again that was not handed out, its attempt unburned.
    pub(crate) fn release(&mut self, key: Key, item: Arc<Fetched>) {
        self.republish(key, AfterAck::Nothing, item);
    }

    fn republish(&mut self, key: Key, then: AfterAck, item: Arc<Fetched>) {
        self.replace(
            key,
            then,
            |by| async move { by.republish(&item, item.attempt, Duration::ZERO, None).await },
        );
    }

    pub(crate) fn dead_letter(&mut self, key: Key, item: Arc<Fetched>, death: Death) {
        self.replace(key, AfterAck::Nothing, |by| async move { by.dead_letter_fetched(&item, death).await });
    }

    pub(crate) fn dead_letter_undecodable(&mut self, key: Key, raw: Raw, death: Death) {
        self.replace(key, AfterAck::Nothing, |by| async move { by.dead_letter(&raw, death).await });
    }

    fn replace<F>(&mut self, key: Key, then: AfterAck, publish: impl FnOnce(Arc<Republisher>) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let publish = publish(self.republisher.clone());
        self.replacements.push(async move { Replacement { key, then, result: publish.await } }.boxed());
    }

    /// Gives a message back to the broker, to its old place.
    pub(crate) fn reject(&mut self, tag: u64) {
        self.unacked.returned(tag);
        let channel = self.channel.clone();
        let reject = async move { channel.basic_reject(tag, BasicRejectOptions { requeue: true }).await };
        let mut reject = reject.boxed();
        if reject.as_mut().now_or_never().is_none() {
            self.flushes.push(reject.map(|result| Flush { result, acked: Vec::new() }).boxed());
        }
    }

    /// Sends the acks that have gathered, and a question behind them that the queue answers when it has them.
    pub(crate) fn flush(&mut self) {
        if self.ackable.is_empty() || self.flushes.len() >= MAX_FLUSHES {
            return;
        }
        let topology = self.republisher.topology();
        let most = self.ackable.len().min(topology.queue_type(&self.republisher.queue).acks_per_fence());
        let acked: Vec<(Key, AfterAck)> = self.ackable.drain(..most).collect();
        let tags: Vec<u64> = acked.iter().map(|(key, _)| key.tag).collect();
        let frames = self.unacked.ack(&tags);
        let (channel, queue) = (self.channel.clone(), topology.names.ready(&self.republisher.queue));
        let sending = async move {
            let acks = frames
                .iter()
                .map(|frame| channel.basic_ack(frame.tag, BasicAckOptions { multiple: frame.multiple }));
            let (acks, fenced) = join(join_all(acks), fence(channel.clone(), queue)).await;
            acks.into_iter().collect::<lapin::Result<()>>().and(fenced.map(drop))
        };
        // The first poll writes the frames: acks must reach the broker in the order in which `unacked` saw them.
        let mut sending = sending.boxed();
        match sending.as_mut().now_or_never() {
            Some(result) => self.flushes.push(std::future::ready(Flush { result, acked }).boxed()),
            None => self.flushes.push(sending.map(|result| Flush { result, acked }).boxed()),
        }
    }

    /// What happens next. May be dropped and called again; nothing is lost.
    pub(crate) async fn next(&mut self, leases: &Leases) -> lapin::Result<AckEvent> {
        tokio::select! {
            biased;
            Some(flush) = self.flushes.next(), if !self.flushes.is_empty() => self.finish_flush(flush, leases),
            Some(replacement) = self.replacements.next(), if !self.replacements.is_empty() => {
                Ok(self.finish_replacement(replacement, leases))
            }
            else => std::future::pending().await,
        }
    }

    /// The replacement is published: ack the original. It is not: the verdict failed, or the broker gets it back.
    fn finish_replacement(&mut self, replacement: Replacement, leases: &Leases) -> AckEvent {
        let Replacement { key, then, result } = replacement;
        if matches!(then, AfterAck::Recovered) {
            self.recovering -= 1;
        }
        match (result, then) {
            (Ok(()), then) => self.ackable.push((key, then)),
            (Err(error), AfterAck::Answer(job, _)) => {
                leases.reopen(&key);
                let _ = job.reply.send(Err(error));
            }
            (Err(error), AfterAck::Recovered | AfterAck::Nothing) => {
                tracing::warn!(name: "rabbitmq.move_failed", queue = %self.republisher.queue, %error);
                self.reject(key.tag);
                return AckEvent::Returned;
            }
        }
        AckEvent::Replaced
    }

    fn finish_flush(&mut self, flush: Flush, leases: &Leases) -> lapin::Result<AckEvent> {
        for (key, then) in flush.acked {
            let AfterAck::Answer(job, answer) = then else { continue };
            let outcome = match &flush.result {
                Ok(()) => {
                    leases.finish(&key);
                    self.meter.settled(&job.verdict, answer, job.since.elapsed());
                    Ok(answer)
                }
                Err(error) => {
                    let said = format!("{}: {error}", self.republisher.topology().handle.address);
                    Err(Error::unavailable(NAME, Certainty::Unknown, said))
                }
            };
            let _ = job.reply.send(outcome);
        }
        flush.result.map(|()| AckEvent::Acked)
    }
}
