//! How a channel's messages leave: their replacement is published where there is one, then they are acked.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use polyqueue::backend::QueueMeter;
use polyqueue::{Certainty, Error, Result, Settled, Verdict};

use crate::address::NAME;
use crate::connection::answered::Answers;
use crate::connection::queries::fence;
use crate::settle::fetched::Fetched;
use crate::settle::job::{Leases, SettleJob, Settlement};
use crate::settle::receipt::Key;
use crate::settle::republish::Republisher;
use crate::settle::unacked::UnackedTags;

/// How many flushes may be on their way at a time.
const MAX_FLUSHES: usize = 2;
/// How many leases that end at once are dealt with at a time: fresh messages need the same connection.
const MAX_REPLACEMENTS: usize = 64;

/// The messages of one channel that are leaving.
pub(crate) struct Acks {
    republisher: Arc<Republisher>,
    meter: Arc<QueueMeter>,
    channel: Channel,
    answers: Answers,
    unacked: UnackedTags,
    replacements: FuturesUnordered<BoxFuture<'static, Vec<Replaced>>>,
    /// How many of the replacements are for messages that came back.
    recovering: usize,
    /// What can be acked.
    ackable: Vec<(Key, Settlement)>,
    flushes: FuturesUnordered<BoxFuture<'static, Flush>>,
}

/// A delivery, and whether its replacement is published.
type Replaced = (Key, Settlement, Result<()>);
/// Whether the broker has some acks, and which.
type Flush = (lapin::Result<()>, Vec<(Key, Settlement)>);

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
    pub(crate) fn new(
        republisher: Arc<Republisher>,
        meter: Arc<QueueMeter>,
        channel: Channel,
        answers: Answers,
    ) -> Self {
        Self {
            republisher,
            meter,
            channel,
            answers,
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
        let key = job.key;
        let is_simple = job.verdict == Verdict::Ack && self.republisher.is_simple(&job.item);
        let over = job.item.is_over(self.republisher.now());
        let settlement = Settlement::Verdict(job, over);
        if is_simple { self.ackable.push((key, settlement)) } else { self.replace(key, settlement) }
    }

    /// Publishes what takes a message's place, then acks it.
    pub(crate) fn replace(&mut self, key: Key, settlement: Settlement) {
        self.recovering += usize::from(settlement.is_recovery());
        let republisher = self.republisher.clone();
        let publish = async move {
            let published = republisher.publish(&settlement).await;
            vec![(key, settlement, published)]
        };
        self.replacements.push(publish.boxed());
    }

    /// Publishes what a crash of the broker has marked again, in this order, then acks it.
    pub(crate) fn renew(&mut self, keys: Vec<Key>, items: Vec<Arc<Fetched>>) {
        self.recovering += items.len();
        let republisher = self.republisher.clone();
        let renew = async move {
            let published = republisher.renew(&items).await;
            let settlements = items.into_iter().map(Settlement::Renewal);
            keys.into_iter()
                .zip(settlements)
                .zip(published)
                .map(|((key, item), done)| (key, item, done))
                .collect()
        };
        self.replacements.push(renew.boxed());
    }

    /// Gives a message back to the broker, to its old place.
    pub(crate) fn reject(&mut self, tag: u64) {
        self.unacked.returned(tag);
        let (channel, answers) = (self.channel.clone(), self.answers.clone());
        let options = BasicRejectOptions { requeue: true };
        let reject =
            async move { answers.answered("a consumer's reject", channel.basic_reject(tag, options)).await };
        let mut reject = reject.boxed();
        if reject.as_mut().now_or_never().is_none() {
            self.flushes.push(reject.map(|result| (result, Vec::new())).boxed());
        }
    }

    /// Sends the acks that have gathered, and a question behind them that the queue answers when it has them.
    pub(crate) fn flush(&mut self) {
        if self.ackable.is_empty() || self.flushes.len() >= MAX_FLUSHES {
            return;
        }
        let topology = self.republisher.topology();
        let most = self.ackable.len().min(topology.queue_type(&self.republisher.queue).acks_per_fence());
        let acked: Vec<(Key, Settlement)> = self.ackable.drain(..most).collect();
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
        let answers = self.answers.clone();
        let mut sending = async move { answers.answered("a consumer's ack", sending).await }.boxed();
        match sending.as_mut().now_or_never() {
            Some(result) => self.flushes.push(std::future::ready((result, acked)).boxed()),
            None => self.flushes.push(sending.map(|result| (result, acked)).boxed()),
        }
    }

    /// What happens next. May be dropped and called again; nothing is lost.
    pub(crate) async fn next(&mut self, leases: &Leases) -> lapin::Result<AckEvent> {
        tokio::select! {
            biased;
            Some(flush) = self.flushes.next(), if !self.flushes.is_empty() => self.flushed(flush, leases),
            Some(replaced) = self.replacements.next(), if !self.replacements.is_empty() => {
                let events = replaced.into_iter().map(|replaced| self.replaced(replaced, leases));
                let returned = events.filter(|event| *event == AckEvent::Returned).count() > 0;
                Ok(if returned { AckEvent::Returned } else { AckEvent::Replaced })
            }
            else => std::future::pending().await,
        }
    }

    /// The replacement is published: ack the original. It is not: the verdict failed, or the broker gets it back. Where the
    /// replacement came back, only the broker knows whether the queue is there that the original is of: if it is, it comes again.
    fn replaced(&mut self, (key, settlement, published): Replaced, leases: &Leases) -> AckEvent {
        self.recovering -= usize::from(settlement.is_recovery());
        match (published, settlement) {
            (Ok(()), settlement) => self.ackable.push((key, settlement)),
            (Err(Error::NotFound(_)), Settlement::Verdict(job, _)) => {
                leases.lose(|lost| *lost == key);
                self.reject(key.tag);
                let _ = job.reply.send(Ok(Settled::LeaseLost));
                return AckEvent::Returned;
            }
            (Err(error), Settlement::Verdict(job, _)) => {
                leases.reopen(&key);
                let _ = job.reply.send(Err(error));
            }
            (Err(error), _) => {
                tracing::warn!(name: "rabbitmq.move_failed", queue = %self.republisher.queue, %error, "a message could not be moved, and is tried again");
                self.reject(key.tag);
                return AckEvent::Returned;
            }
        }
        AckEvent::Replaced
    }

    fn flushed(&mut self, (result, acked): Flush, leases: &Leases) -> lapin::Result<AckEvent> {
        for (key, settlement) in acked {
            let Settlement::Verdict(job, over) = settlement else { continue };
            let outcome = match &result {
                Ok(()) => {
                    let answer = job.answer(over);
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
        result.map(|()| AckEvent::Acked)
    }
}
