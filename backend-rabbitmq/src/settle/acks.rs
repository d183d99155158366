//! How a channel's messages leave: their replacement is published where there is one, before they are acked or together with it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use lapin::options::BasicRejectOptions;
use polyqueue::backend::QueueMeter;
use polyqueue::{Certainty, Error, Result, Verdict};

use crate::address::NAME;
use crate::connection::answered::Answers;
use crate::connection::queries::fence;
use crate::connection::request::PublishRequest;
use crate::settle::fetched::Fetched;
use crate::settle::instead::Instead;
use crate::settle::job::{Leases, SettleJob, Settlement};
use crate::settle::receipt::Key;
use crate::settle::republish::Republisher;
use crate::settle::transaction::{ack_all, commit, committed};
use crate::settle::unacked::UnackedTags;

/// How many flushes may be on their way at a time.
const MAX_FLUSHES: usize = 2;
/// How many leases that end at once are dealt with at a time: fresh messages need the same connection.
const MAX_REPLACEMENTS: usize = 64;
/// How many bytes of copies go with one transaction, or a single copy that is larger.
const MAX_BYTES: usize = 1024 * 1024;

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
    /// What can be acked with its copy.
    copies: Vec<(Key, Settlement, PublishRequest)>,
    /// What goes back to the broker once it has committed.
    rejected: Vec<u64>,
    /// The channel acks by transactions, and does so for as long as it lives.
    is_transactional: bool,
    /// The broker stores copies, and ends the channel for whatever comes meanwhile.
    is_committing: bool,
    flushes: FuturesUnordered<BoxFuture<'static, Flush>>,
}

/// A delivery, and whether its replacement is published.
type Replaced = (Key, Settlement, Result<Instead>);
/// Whether the broker has some acks, and which.
type Flush = (lapin::Result<()>, Vec<(Key, Settlement)>, Kind);

/// How some acks were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Alone,
    WithCopies,
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
            copies: Vec::new(),
            rejected: Vec::new(),
            is_transactional: false,
            is_committing: false,
            flushes: FuturesUnordered::new(),
        }
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        let waiting = self.ackable.len() + self.copies.len() + self.rejected.len();
        waiting == 0 && self.replacements.is_empty() && self.flushes.is_empty()
    }

    /// Whether messages that came back are being published again.
    pub(crate) fn is_recovering(&self) -> bool {
        self.recovering > 0
    }

    /// Whether nothing may be sent on the channel for now.
    pub(crate) fn is_committing(&self) -> bool {
        self.is_committing
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
        self.rejected.push(tag);
    }

    /// Sends what has gathered, unless the broker commits. Copies only where nothing `is_asked` in several steps: none may come while
    /// they are stored.
    pub(crate) fn flush(&mut self, is_asked: bool) {
        if self.is_committing {
            return;
        }
        self.flush_rejects();
        self.flush_acks();
        if !is_asked {
            self.flush_copies();
        }
    }

    fn flush_rejects(&mut self) {
        for tag in std::mem::take(&mut self.rejected) {
            let (channel, commits) = (self.channel.clone(), self.is_transactional);
            let reject = async move {
                let rejected = channel.basic_reject(tag, BasicRejectOptions { requeue: true });
                let (rejected, committed) = join(rejected, committed(&channel, commits)).await;
                rejected.and(committed)
            };
            self.send("a consumer's reject", reject, Vec::new(), Kind::Alone);
        }
    }

    /// Sends the acks that have gathered, and a question behind them that the queue answers when it has them.
    fn flush_acks(&mut self) {
        if self.ackable.is_empty() || self.flushes.len() >= MAX_FLUSHES {
            return;
        }
        let topology = self.republisher.topology();
        let most = self.ackable.len().min(topology.queue_type(&self.republisher.queue).acks_per_fence());
        let queue = topology.names.ready(&self.republisher.queue);
        let acked: Vec<(Key, Settlement)> = self.ackable.drain(..most).collect();
        let frames = self.unacked.ack(&acked.iter().map(|(key, _)| key.tag).collect::<Vec<_>>());
        let (channel, commits) = (self.channel.clone(), self.is_transactional);
        let sending = async move {
            let acks = join(ack_all(&channel, &frames), committed(&channel, commits));
            let ((acks, committed), fenced) = join(acks, fence(channel.clone(), queue)).await;
            acks.and(committed).and(fenced.map(drop))
        };
        self.send("a consumer's ack", sending, acked, Kind::Alone);
    }

    /// Publishes the copies that have gathered and acks their originals, both or neither.
    fn flush_copies(&mut self) {
        let most = self.republisher.topology().queue_type(&self.republisher.queue).acks_per_fence();
        let (mut bytes, mut taken) = (0, 0);
        for (.., copy) in self.copies.iter().take(most) {
            bytes += copy.body.len();
            if taken > 0 && bytes > MAX_BYTES {
                break;
            }
            taken += 1;
        }
        if taken == 0 {
            return;
        }
        let (mut acked, mut copies) = (Vec::with_capacity(taken), Vec::with_capacity(taken));
        for (key, settlement, copy) in self.copies.drain(..taken) {
            acked.push((key, settlement));
            copies.push(copy);
        }
        let frames = self.unacked.ack(&acked.iter().map(|(key, _)| key.tag).collect::<Vec<_>>());
        let begins = !std::mem::replace(&mut self.is_transactional, true);
        self.is_committing = true;
        let committing = commit(self.channel.clone(), begins, copies, frames);
        self.send("a consumer's commit", committing, acked, Kind::WithCopies);
    }

    /// The first poll writes the frames: acks must reach the broker in the order in which `unacked` saw them.
    fn send(
        &mut self,
        what: &'static str,
        sending: impl Future<Output = lapin::Result<()>> + Send + 'static,
        acked: Vec<(Key, Settlement)>,
        kind: Kind,
    ) {
        let answers = self.answers.clone();
        let mut sending = async move { answers.answered(what, sending).await }.boxed();
        match sending.as_mut().now_or_never() {
            Some(result) => self.flushes.push(std::future::ready((result, acked, kind)).boxed()),
            None => self.flushes.push(sending.map(move |result| (result, acked, kind)).boxed()),
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

    /// The replacement is published: ack the original. It is not: the verdict failed, or the broker gets it back.
    fn replaced(&mut self, (key, settlement, published): Replaced, leases: &Leases) -> AckEvent {
        self.recovering -= usize::from(settlement.is_recovery());
        match (published, settlement) {
            (Ok(Instead::Stored), settlement) => self.ackable.push((key, settlement)),
            (Ok(Instead::Copy(copy)), settlement) => self.copies.push((key, settlement, copy)),
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

    fn flushed(&mut self, (result, acked, kind): Flush, leases: &Leases) -> lapin::Result<AckEvent> {
        self.is_committing &= kind == Kind::Alone;
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
