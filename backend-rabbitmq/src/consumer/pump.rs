//! One task owns a consumer's channel: it fetches, acks, ends leases, and comes back after a loss.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicQosOptions, BasicRejectOptions};
use polyqueue::{Certainty, DeadReason, Error, Result, Settled, Verdict};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::Reader;
use super::held::Item;
use super::ledger::Ledger;
use super::moves::{Moved, Then};
use super::receipt::Key;
use super::source::{Came, Source};
use crate::PROVIDER_NAME;
use crate::ask::barrier;
use crate::fault::is_missing;
use crate::link::Session;
use crate::wire::{Raw, decode};

/// How many barriers may be on their way at a time.
const FLUSHES: usize = 2;
/// How many leases that end at once are dealt with at a time: fresh messages need the same connection.
const MOVES: usize = 64;
/// The widest sweep over messages that came back.
const SWEEP: usize = 256;
/// How long to leave the queue alone when nothing can be published.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a channel is looked at that nobody uses and of which no error was told.
const GLANCE: Duration = Duration::from_secs(5);
/// How long the orderly end of a consumer may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a consumer asks of its pump.
pub(super) enum Job {
    /// Carry out a verdict.
    Settle { key: Key, item: Arc<Item>, since: Instant, verdict: Verdict, reply: Reply },
    /// Give back what was not handed out.
    Close(oneshot::Sender<()>),
}

type Reply = oneshot::Sender<Result<Settled>>;

/// Acks that were sent, and whether the broker has them.
type Flushed = (lapin::Result<()>, Vec<(Key, Then)>);

/// Why a channel's work ended.
enum End {
    /// Nobody needs the consumer any more.
    Done,
    /// The channel is gone.
    Lost(lapin::Error),
}

/// Runs until the consumer or its handle is gone.
pub(super) async fn run(
    reader: Arc<Reader>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    _alive: mpsc::Sender<()>,
) {
    let mut epoch = 0;
    loop {
        let session = tokio::select! {
            biased;
            session = attach(&reader) => session,
            () = refuse_all(&reader, &mut jobs) => return,
        };
        epoch += 1;
        let (session, channel) = session;
        let mut line = Line::new(reader.clone(), session, channel, epoch);
        let end = line.serve(&mut jobs).await;
        reader.desk.lose(epoch);
        match end {
            End::Done => return,
            End::Lost(error) => {
                if !line.recover_from(&error, &mut jobs).await {
                    return;
                }
            }
        }
    }
}

/// A channel on a living connection, however long it takes.
async fn attach(reader: &Reader) -> (Arc<Session>, Channel) {
    loop {
        match try_attach(reader).await {
            Ok(attached) => {
                reader.desk.set_trouble(None);
                return attached;
            }
            Err(error) => {
                let permanent = !error.is_transient();
                reader.desk.set_trouble(Some(error));
                if permanent {
                    tokio::time::sleep(FAREWELL).await;
                }
            }
        }
    }
}

async fn try_attach(reader: &Reader) -> Result<(Arc<Session>, Channel)> {
    let session = reader.link.session(reader.core.until()).await?;
    let channel = session.channel().await?;
    let prefetch = u16::try_from(reader.subscription.prefetch.max(1)).unwrap_or(u16::MAX);
    channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(|e| session.fault(&e))?;
    Ok((session, channel))
}

/// Answers while there is no channel; ends when nobody needs the consumer any more.
async fn refuse_all(reader: &Reader, jobs: &mut mpsc::UnboundedReceiver<Job>) {
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                None => return,
                Some(Job::Settle { reply, .. }) => drop(reply.send(Ok(Settled::LeaseLost))),
                Some(Job::Close(reply)) => {
                    reader.desk.close();
                    let _ = reply.send(());
                }
            },
            () = reader.core.closed() => return,
        }
    }
}

/// The work on one channel.
struct Line {
    reader: Arc<Reader>,
    session: Arc<Session>,
    channel: Channel,
    epoch: u64,
    source: Source,
    ledger: Ledger,
    moves: FuturesUnordered<BoxFuture<'static, Moved>>,
    acks: Vec<(Key, Then)>,
    flushes: FuturesUnordered<BoxFuture<'static, Flushed>>,
    /// Messages that came back and are being filed again.
    refiling: usize,
    sweep: usize,
    /// The queue was empty when it was last asked.
    empty: bool,
    paused_until: Option<Instant>,
    closing: Vec<oneshot::Sender<()>>,
    closed: bool,
    ending: Option<Instant>,
}

impl Line {
    fn new(reader: Arc<Reader>, session: Arc<Session>, channel: Channel, epoch: u64) -> Self {
        let source = Source::new(channel.clone(), reader.object());
        Self {
            reader,
            session,
            channel,
            epoch,
            source,
            ledger: Ledger::default(),
            moves: FuturesUnordered::new(),
            acks: Vec::new(),
            flushes: FuturesUnordered::new(),
            refiling: 0,
            sweep: 1,
            empty: false,
            paused_until: None,
            closing: Vec::new(),
            closed: false,
            ending: None,
        }
    }

    async fn serve(&mut self, jobs: &mut mpsc::UnboundedReceiver<Job>) -> End {
        let core = self.reader.core.clone();
        let mut errors = self.session.errors();
        let mut glance = tokio::time::interval(GLANCE);
        glance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.flush();
            self.advance();
            if self.is_quiet() {
                self.closing.clear();
                if self.ending.is_some() {
                    return End::Done;
                }
            }
            let lease_end = self.reader.desk.next_end().filter(|_| self.moves.len() < MOVES);
            let came = tokio::select! {
                biased;
                job = jobs.recv(), if self.ending.is_none() => {
                    match job {
                        Some(job) => {
                            self.start(job);
                            while let Ok(job) = jobs.try_recv() {
                                self.start(job);
                            }
                        }
                        None => self.end(),
                    }
                    Ok(())
                }
                Some((result, done)) = self.flushes.next(), if !self.flushes.is_empty() => self.flushed(result, done),
                Some(moved) = self.moves.next(), if !self.moves.is_empty() => {
                    self.moved(moved);
                    Ok(())
                }
                came = self.source.next() => came.map(|came| self.came(came)),
                () = at(lease_end) => {
                    self.end_leases();
                    Ok(())
                }
                () = at(self.paused_until) => {
                    self.paused_until = None;
                    Ok(())
                }
                () = self.reader.desk.bell.notified() => Ok(()),
                () = core.closed(), if self.ending.is_none() => {
                    self.end();
                    Ok(())
                }
                () = at(self.ending) => return End::Done,
                Ok(()) = errors.changed() => self.check(),
                _ = glance.tick() => self.check(),
            };
            if let Err(error) = came {
                return End::Lost(error);
            }
        }
    }

    fn check(&self) -> lapin::Result<()> {
        if self.session.is_alive() && self.channel.status().connected() {
            return Ok(());
        }
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
    }

    fn is_quiet(&self) -> bool {
        (self.closed || self.ending.is_some())
            && self.source.is_idle()
            && self.moves.is_empty()
            && self.acks.is_empty()
            && self.flushes.is_empty()
    }

    fn end(&mut self) {
        self.reader.desk.close();
        self.closed = true;
        self.ending = Some(Instant::now() + FAREWELL);
    }

    // ── fetching ────────────────────────────────────────────────────────────────────────────────────────────────

    /// Does what the pending receives call for.
    fn advance(&mut self) {
        if self.closed {
            self.source.detach(Vec::new());
            return self.give_back();
        }
        if self.reader.subscription.prefetch > 0 { self.advance_push() } else { self.advance_pull() }
    }

    fn advance_push(&mut self) {
        if self.source.is_idle() && self.paused_until.is_none() {
            self.source.attach();
        }
        if self.source.is_attached() && !self.source.is_asking() && self.reader.desk.demand().now {
            self.source.ask(self.reader.desk.waiting());
        }
    }

    fn advance_pull(&mut self) {
        let demand = self.reader.desk.demand();
        if demand.wanted == 0 {
            self.source.detach(Vec::new());
            return self.give_back();
        }
        if self.source.is_attached() {
            if demand.now {
                self.source.detach(self.reader.desk.waiting());
            } else {
                self.reader.desk.all_are_asked();
            }
        } else if self.source.is_idle() && self.refiling == 0 && self.paused_until.is_none() {
            if self.empty && !demand.now && !demand.unasked {
                self.source.attach();
            } else {
                self.source.get(demand.wanted.max(self.sweep), self.reader.desk.waiting());
            }
        }
    }

    /// What nobody waits for goes back at once, its attempt unburned.
    fn give_back(&mut self) {
        for (key, item) in self.reader.desk.clear_stock() {
            let reader = self.reader.clone();
            self.moving(key, Then::Moved, async move {
                reader.file(&item, item.attempt, Duration::ZERO, None).await
            });
        }
    }

    fn came(&mut self, came: Came) {
        match came {
            Came::Got(got, asked) => {
                self.empty = got.is_empty();
                if self.empty {
                    self.sweep = 1;
                    self.reader.desk.found_nothing(&asked);
                }
                self.take(got);
            }
            Came::Attached => {}
            Came::Sent(deliveries) => {
                self.empty = false;
                self.take(deliveries);
                if self.reader.subscription.prefetch == 0 {
                    self.source.detach(Vec::new());
                }
            }
            Came::Detached(rest, asked) => {
                if rest.is_empty() {
                    self.reader.desk.found_nothing(&asked);
                }
                self.take(rest);
            }
            Came::AllSent(asked) => self.reader.desk.found_nothing(&asked),
        }
    }

    /// Sorts what came: to be handed out, to be filed again, or to be buried.
    fn take(&mut self, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let came = deliveries.len();
        let before = self.refiling;
        let items: Vec<_> = deliveries.into_iter().filter_map(|delivery| self.sort(delivery)).collect();
        let all_came_back = self.refiling - before == came;
        self.sweep = if all_came_back { (self.sweep * 2).min(SWEEP) } else { 1 };
        self.reader.desk.lay_down(items);
    }

    fn sort(&mut self, delivery: Delivery) -> Option<(Key, Arc<Item>)> {
        let key = Key { epoch: self.epoch, tag: delivery.delivery_tag };
        self.ledger.delivered(key.tag);
        let (redelivered, raw) =
            (delivery.redelivered, Raw { properties: delivery.properties, body: delivery.data.into() });
        let reader = self.reader.clone();
        let decoded = match decode(&raw) {
            Ok(decoded) => decoded,
            Err(why) => {
                let mut death = reader.death(DeadReason::Undecodable, &why, 0);
                death.consumer = None;
                self.moving(key, Then::Moved, async move { reader.bury(&raw, death).await });
                return None;
            }
        };
        let attempt = reader.core.kind.attempt(decoded.lives.attempt, redelivered);
        let own = decoded.message.max_attempts();
        let max_attempts = own.unwrap_or(reader.subscription.max_attempts).get();
        let address = reader.core.catalogue.address(reader.queue());
        let item = Item { raw, message: decoded.message, attempt, max_attempts, address };
        if attempt > max_attempts {
            let error = item.message.last_error().unwrap_or("the last holder went away").to_owned();
            let mut death = reader.death(DeadReason::MaxAttempts, &error, attempt - 1);
            death.consumer = None;
            self.moving(key, Then::Moved, async move { reader.bury(&item.raw, death).await });
            return None;
        }
        if redelivered {
            self.refiling += 1;
            self.moving(key, Then::Refiled, async move {
                reader.file(&item, item.attempt, Duration::ZERO, None).await
            });
            return None;
        }
        Some((key, Arc::new(item)))
    }

    // ── settling ────────────────────────────────────────────────────────────────────────────────────────────────

    fn start(&mut self, job: Job) {
        match job {
            Job::Close(reply) => {
                self.reader.desk.close();
                self.closed = true;
                self.closing.push(reply);
            }
            Job::Settle { key, reply, .. } if key.epoch != self.epoch => {
                let _ = reply.send(Ok(Settled::LeaseLost));
            }
            Job::Settle { key, item, since, verdict, reply } => {
                let answer = answer_to(&verdict, &item);
                let then = Then::Answer { verdict: verdict.clone(), answer, since, reply };
                if verdict == Verdict::Ack {
                    self.acks.push((key, then));
                } else {
                    let reader = self.reader.clone();
                    self.moving(key, then, async move { reader.apply(item, &verdict).await });
                }
            }
        }
    }

    fn end_leases(&mut self) {
        for (key, item) in self.reader.desk.ended(MOVES - self.moves.len().min(MOVES)) {
            if key.epoch != self.epoch {
                continue;
            }
            tracing::debug!(event = "rabbitmq.lease_ended", queue = %self.reader.queue(), attempt = item.attempt);
            let reader = self.reader.clone();
            self.moving(key, Then::Moved, async move { reader.expire(item).await });
        }
    }

    fn moving(&mut self, key: Key, then: Then, publish: impl Future<Output = Result<()>> + Send + 'static) {
        self.moves.push(async move { Moved { key, then, result: publish.await } }.boxed());
    }

    /// The replacement is published: ack the original. It is not: the verdict failed, or the broker gets it back.
    fn moved(&mut self, moved: Moved) {
        let Moved { key, then, result } = moved;
        if matches!(then, Then::Refiled) {
            self.refiling -= 1;
        }
        match (result, then) {
            (Ok(()), then) => self.acks.push((key, then)),
            (Err(error), Then::Answer { reply, .. }) => {
                self.reader.desk.reopen(key);
                let _ = reply.send(Err(error));
            }
            (Err(error), Then::Refiled | Then::Moved) => {
                tracing::warn!(event = "rabbitmq.move_failed", queue = %self.reader.queue(), %error);
                self.paused_until = Some(Instant::now() + PAUSE);
                self.ledger.returned(key.tag);
                let channel = self.channel.clone();
                let reject =
                    async move { channel.basic_reject(key.tag, BasicRejectOptions { requeue: true }).await };
                let mut reject = reject.boxed();
                if reject.as_mut().now_or_never().is_none() {
                    self.flushes.push(reject.map(|result| (result, Vec::new())).boxed());
                }
            }
        }
    }

    /// Sends the acks that have gathered, and a question behind them that the queue answers when it has them.
    fn flush(&mut self) {
        if self.acks.is_empty() || self.flushes.len() >= FLUSHES {
            return;
        }
        let most = self.acks.len().min(self.reader.core.kind.acks_per_barrier());
        let done: Vec<(Key, Then)> = self.acks.drain(..most).collect();
        let tags: Vec<u64> = done.iter().map(|(key, _)| key.tag).collect();
        let frames = self.ledger.ack(&tags);
        let (channel, queue) = (self.channel.clone(), self.reader.object());
        let sending = async move {
            let acks = frames
                .iter()
                .map(|frame| channel.basic_ack(frame.tag, BasicAckOptions { multiple: frame.multiple }));
            let acks = join_all(acks);
            let (acked, answered) = futures_util::future::join(acks, barrier(channel.clone(), queue)).await;
            acked.into_iter().collect::<lapin::Result<()>>().and(answered.map(drop))
        };
        // The first poll writes the frames: acks must reach the broker in the order in which the ledger saw them.
        let mut sending = sending.boxed();
        match sending.as_mut().now_or_never() {
            Some(result) => self.flushes.push(std::future::ready((result, done)).boxed()),
            None => self.flushes.push(sending.map(|result| (result, done)).boxed()),
        }
    }

    fn flushed(&mut self, result: lapin::Result<()>, done: Vec<(Key, Then)>) -> lapin::Result<()> {
        for (key, then) in done {
            match then {
                Then::Answer { verdict, answer, since, reply } => {
                    let outcome = match &result {
                        Ok(()) => {
                            self.reader.desk.settled(key);
                            self.reader.meter.settled(&verdict, answer, since.elapsed());
                            Ok(answer)
                        }
                        Err(error) => {
                            let said = format!("{}: {error}", self.reader.core.address);
                            Err(Error::unavailable(PROVIDER_NAME, Certainty::Unknown, said))
                        }
                    };
                    let _ = reply.send(outcome);
                }
                Then::Refiled | Then::Moved => {}
            }
        }
        result
    }

    /// After a loss: `false` when nobody needs the consumer any more.
    async fn recover_from(&mut self, error: &lapin::Error, jobs: &mut mpsc::UnboundedReceiver<Job>) -> bool {
        let desk = &self.reader.desk;
        if self.ending.is_some() {
            return false;
        }
        if !is_missing(error) {
            tracing::warn!(
                event = "rabbitmq.consumer_lost", queue = %self.reader.queue(), error = %self.session.fault(error),
            );
            return true;
        }
        // The queue is gone. Whoever asks is told so, one question each; it may be declared again.
        desk.refuse(&Error::NotFound(self.reader.queue().clone()));
        let asked = async {
            while desk.demand().wanted == 0 {
                desk.bell.notified().await;
            }
        };
        tokio::select! {
            () = asked => true,
            () = refuse_all(&self.reader, jobs) => false,
        }
    }
}

fn answer_to(verdict: &Verdict, item: &Item) -> Settled {
    match verdict {
        Verdict::DeadLetter { .. } => Settled::Died,
        Verdict::Retry { .. } if item.attempt >= item.max_attempts => Settled::Died,
        _ => Settled::Applied,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
