//! The work on one channel of a consumer: whatever happens next, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::message::Delivery;
use polyqueue::Settled;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::connection::link::Session;
use crate::consume::source::{Source, SourceEvent};
use crate::consume::state::{ConsumerState, Job};
use crate::consume::sweep::Sweep;
use crate::consume::triage::{Action, Triage, expired};
use crate::settle::acks::{AckEvent, Acks};
use crate::settle::receipt::Key;
use crate::wire::properties::Raw;

/// How often a channel is checked that nobody uses and of which no error was told.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How long the orderly end of a consumer may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to leave the queue alone when nothing can be published.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a channel's work ended.
pub(crate) enum LoopEnd {
    /// Nobody needs the consumer any more.
    Done,
    /// The channel is gone.
    Lost(lapin::Error),
}

/// The work on one channel.
pub(crate) struct ChannelLoop {
    reader: Arc<ConsumerState>,
    session: Arc<Session>,
    channel: Channel,
    epoch: u64,
    source: Source,
    triage: Triage,
    sweep: Sweep,
    acks: Acks,
    /// The queue was empty when it was last asked.
    empty: bool,
    /// Up to which receive the broker was asked.
    asked: u64,
    paused_until: Option<Instant>,
    closing: Vec<oneshot::Sender<()>>,
    closed: bool,
    ending: Option<Instant>,
}

impl ChannelLoop {
    pub(crate) fn new(
        reader: Arc<ConsumerState>,
        session: Arc<Session>,
        channel: Channel,
        epoch: u64,
    ) -> Self {
        Self {
            source: Source::new(channel.clone(), reader.object()),
            triage: Triage::new(reader.topology().queue_type, reader.subscription.max_attempts),
            sweep: Sweep::new(),
            acks: Acks::new(reader.republisher.clone(), reader.meter.clone(), channel.clone()),
            empty: false,
            asked: 0,
            paused_until: None,
            closing: Vec::new(),
            closed: reader.hand_out.pending.is_closed(),
            ending: None,
            reader,
            session,
            channel,
            epoch,
        }
    }

    pub(crate) async fn serve(mut self, jobs: &mut mpsc::UnboundedReceiver<Job>) -> LoopEnd {
        let reader = self.reader.clone();
        let hand_out = &reader.hand_out;
        let mut errors = self.session.errors();
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.acks.flush();
            self.advance();
            if self.is_quiet() {
                self.closing.clear();
                if self.ending.is_some() {
                    return LoopEnd::Done;
                }
            }
            let lease_end = hand_out.leases.next_end().filter(|_| self.acks.capacity() > 0);
            let outcome = tokio::select! {
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
                event = self.acks.next(&hand_out.leases) => event.map(|event| self.acked(event)),
                event = self.source.next() => event.map(|event| self.received(event)),
                () = at(lease_end) => {
                    self.end_leases();
                    Ok(())
                }
                () = at(self.paused_until) => {
                    self.paused_until = None;
                    Ok(())
                }
                () = hand_out.pending.changed() => Ok(()),
                () = hand_out.leases.changed() => Ok(()),
                () = reader.handle().closed(), if self.ending.is_none() => {
                    self.end();
                    Ok(())
                }
                () = at(self.ending) => return LoopEnd::Done,
                Ok(()) = errors.changed() => self.check(),
                _ = check.tick() => self.check(),
            };
            if let Err(error) = outcome {
                return if self.ending.is_some() { LoopEnd::Done } else { LoopEnd::Lost(error) };
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
        (self.closed || self.ending.is_some()) && self.source.is_idle() && self.acks.is_idle()
    }

    fn end(&mut self) {
        self.reader.hand_out.close();
        self.closed = true;
        self.ending = Some(Instant::now() + CLOSE_TIMEOUT);
    }

    fn start(&mut self, job: Job) {
        match job {
            Job::Close(reply) => {
                self.reader.hand_out.close();
                self.closed = true;
                self.closing.push(reply);
            }
            Job::Settle(job) if job.key.epoch != self.epoch => {
                self.reader.hand_out.leases.lose(|lost| *lost == job.key);
                let _ = job.reply.send(Ok(Settled::LeaseLost));
            }
            Job::Settle(job) => self.acks.settle(job),
        }
    }

    fn acked(&mut self, event: AckEvent) {
        if event == AckEvent::Returned {
            self.paused_until = Some(Instant::now() + PAUSE);
        }
    }

    fn end_leases(&mut self) {
        for (key, item) in self.reader.hand_out.leases.ended(self.acks.capacity()) {
            if key.epoch == self.epoch {
                self.acks.expire(key, item);
            }
        }
    }

    /// Does what the pending receives call for.
    fn advance(&mut self) {
        self.reader.hand_out.take_back();
        for (key, item) in self.reader.hand_out.clear_stale() {
            let death = expired(&item, self.reader.handle().now());
            self.acks.dead_letter(key, item, death);
        }
        if self.closed {
            self.source.detach(0);
            return self.give_back();
        }
        if self.reader.subscription.prefetch > 0 { self.advance_push() } else { self.advance_pull() }
    }

    fn advance_push(&mut self) {
        if self.source.is_idle() && self.paused_until.is_none() {
            self.source.attach();
        }
        if self.source.is_attached()
            && !self.source.is_asking()
            && let Some(demand) = self.reader.hand_out.pending.demand()
            && demand.immediate
        {
            self.source.ask(demand.round);
        }
    }

    fn advance_pull(&mut self) {
        let Some(demand) = self.reader.hand_out.pending.demand() else {
            self.source.detach(0);
            return self.give_back();
        };
        if self.source.is_attached() {
            if demand.immediate {
                self.source.detach(demand.round);
            } else {
                self.asked = demand.round;
            }
        } else if self.source.is_idle() && !self.acks.is_recovering() && self.paused_until.is_none() {
            if self.empty && !demand.immediate && demand.round <= self.asked {
                self.source.attach();
            } else {
                self.source.get(demand.messages.max(self.sweep.size()), demand.round);
            }
        }
    }

    /// What nobody waits for goes back at once, its attempt unburned.
    fn give_back(&mut self) {
        for (key, item) in self.reader.hand_out.clear_stock() {
            self.acks.release(key, item);
        }
    }

    fn received(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Got(got, more, asked) => {
                self.empty = got.is_empty();
                if self.empty {
                    self.found_nothing(asked);
                }
                let received = got.len();
                let came_back = self.sort(got);
                self.sweep.adapt(received, came_back, more);
            }
            SourceEvent::Attached => {}
            SourceEvent::Sent(deliveries) => {
                self.empty = false;
                // First the end of the consumer, then the hand-out: an ack that overtook it would bring a message that nobody
                // waits for.
                if self.reader.subscription.prefetch == 0 {
                    self.source.detach(0);
                }
                self.sort(deliveries);
            }
            SourceEvent::Detached(rest, asked) => {
                if rest.is_empty() {
                    self.found_nothing(asked);
                }
                self.sort(rest);
            }
            SourceEvent::AllSent(asked) => self.found_nothing(asked),
        }
    }

    fn found_nothing(&mut self, asked: u64) {
        self.asked = self.asked.max(asked);
        self.reader.hand_out.pending.exhausted(asked, None);
    }

    /// Sorts deliveries and does what is to be done with each. Answers how many had come back.
    fn sort(&mut self, deliveries: Vec<Delivery>) -> usize {
        let (mut ready, mut came_back) = (Vec::new(), 0);
        for delivery in deliveries {
            let key = Key { epoch: self.epoch, tag: delivery.delivery_tag };
            self.acks.received(key.tag);
            let raw = Raw { properties: delivery.properties, body: delivery.data.into() };
            let address = self.reader.topology().catalogue.address(self.reader.queue());
            match self.triage.sort(raw, delivery.redelivered, address, self.reader.handle().now()) {
                Action::HandOut(item) => ready.push((key, item)),
                Action::Republish(item) => {
                    came_back += 1;
                    self.acks.recover(key, item);
                }
                Action::DeadLetter(item, death) => self.acks.dead_letter(key, item, death),
                Action::DeadLetterUndecodable(raw, death) => {
                    self.acks.dead_letter_undecodable(key, *raw, death);
                }
                Action::Reject => self.acks.reject(key.tag),
            }
        }
        if !ready.is_empty() {
            self.reader.hand_out.lay_down(ready);
        }
        came_back
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
