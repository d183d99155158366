//! The work on one channel of a consumer: whatever happens next, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::message::Delivery;
use polyqueue::Settled;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::connection::session::Session;
use crate::consume::arrivals::Arrivals;
use crate::consume::phase::Phase;
use crate::consume::source::{Source, SourceEvent};
use crate::consume::state::{ConsumerState, Job};
use crate::consume::sweep::Sweep;
use crate::consume::triage::{Action, Triage, expired};
use crate::settle::acks::{AckEvent, Acks};
use crate::settle::job::Settlement;
use crate::settle::receipt::Key;
use crate::wire::properties::Raw;

/// How often a channel is checked that nobody uses and of which no error was told.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The work on one channel.
pub(crate) struct ChannelLoop {
    reader: Arc<ConsumerState>,
    session: Arc<Session>,
    channel: Channel,
    epoch: u64,
    source: Source,
    triage: Triage,
    sweep: Sweep,
    arrivals: Arrivals,
    acks: Acks,
    /// Up to which receive the queue was asked, if it was empty when it was last asked.
    empty_for: Option<u64>,
    phase: Phase,
    /// Told when all is settled that nobody waits for.
    closing: Vec<oneshot::Sender<()>>,
    /// When the buffer was last looked through.
    looked: Instant,
}

impl ChannelLoop {
    pub(crate) fn new(
        reader: Arc<ConsumerState>,
        session: Arc<Session>,
        channel: Channel,
        epoch: u64,
    ) -> Self {
        Self {
            source: Source::new(
                channel.clone(),
                session.answers.clone(),
                reader.object(),
                reader.subscription.consumer.clone(),
            ),
            triage: Triage::new(
                reader.topology().queue_type(reader.queue()),
                reader.subscription.max_attempts,
            ),
            sweep: Sweep::new(),
            arrivals: Arrivals::new(session.clone()),
            acks: Acks::new(
                reader.republisher.clone(),
                reader.meter.clone(),
                channel.clone(),
                session.answers.clone(),
            ),
            empty_for: None,
            phase: if reader.hand_out.pending.is_closed() { Phase::Closing } else { Phase::Serving },
            closing: Vec::new(),
            looked: Instant::now(),
            reader,
            session,
            channel,
            epoch,
        }
    }

    /// Ends with an error when the channel is lost, without one when nobody needs the consumer any more.
    pub(crate) async fn serve(mut self, jobs: &mut mpsc::UnboundedReceiver<Job>) -> lapin::Result<()> {
        let end = self.run(jobs).await;
        if self.phase.is_ending() { Ok(()) } else { end }
    }

    async fn run(&mut self, jobs: &mut mpsc::UnboundedReceiver<Job>) -> lapin::Result<()> {
        let reader = self.reader.clone();
        let hand_out = &reader.hand_out;
        let mut errors = self.session.errors();
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.acks.flush();
            self.advance();
            if !self.phase.is_open()
                && self.source.is_idle()
                && self.acks.is_idle()
                && self.arrivals.is_empty()
            {
                self.closing.clear();
                if self.phase.is_ending() {
                    return Ok(());
                }
            }
            let next_look = self.next_look();
            let lease_end = hand_out.leases.next_end().filter(|_| self.acks.capacity() > 0);
            tokio::select! {
                biased;
                job = jobs.recv(), if !self.phase.is_ending() => match job {
                    Some(job) => {
                        self.start(job);
                        while let Ok(job) = jobs.try_recv() {
                            self.start(job);
                        }
                    }
                    None => self.end(),
                },
                event = self.acks.next(&hand_out.leases) => if event? == AckEvent::Returned {
                    self.phase = self.phase.paused();
                },
                looked = self.arrivals.looked(), if self.arrivals.is_looking() => {
                    looked?;
                    self.sort_if_told();
                }
                event = self.source.next() => self.received(event?),
                () = at(lease_end) => self.end_leases(),
                () = at(next_look) => self.renew(),
                () = at(self.phase.until()) => {
                    if self.phase.is_ending() {
                        return Ok(());
                    }
                    self.phase = Phase::Serving;
                }
                () = hand_out.pending.changed() => {}
                () = hand_out.leases.changed() => {}
                () = reader.handle().closed(), if !self.phase.is_ending() => self.end(),
                Ok(()) = errors.changed() => self.check()?,
                _ = check.tick() => self.check()?,
            }
        }
    }

    fn check(&self) -> lapin::Result<()> {
        if self.session.is_alive() && self.channel.status().connected() {
            return Ok(());
        }
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
    }

    fn end(&mut self) {
        self.reader.hand_out.close();
        // What is being published in a message's place leaves two of it when it is cut off.
        self.phase = Phase::Ending(self.reader.handle().until());
    }

    fn start(&mut self, job: Job) {
        match job {
            Job::Close(reply) => {
                self.reader.hand_out.close();
                self.phase = Phase::Closing;
                self.closing.push(reply);
            }
            Job::Settle(job) if job.key.epoch != self.epoch => {
                self.reader.hand_out.leases.lose(|lost| *lost == job.key);
                let _ = job.reply.send(Ok(Settled::LeaseLost));
            }
            Job::Settle(job) => self.acks.settle(job),
        }
    }

    fn end_leases(&mut self) {
        for (key, item) in self.reader.hand_out.leases.ended(self.acks.capacity()) {
            if key.epoch == self.epoch {
                tracing::debug!(name: "rabbitmq.lease_ended", queue = %self.reader.queue(), attempt = item.attempt, "a lease ended: the message is handed out again");
                self.acks.replace(key, Settlement::LeaseEnd(item));
            }
        }
    }

    /// When it is to be seen whether something has waited in the buffer too long.
    fn next_look(&self) -> Option<Instant> {
        let waiting = self.reader.handle().hold_limit().waiting();
        (self.reader.subscription.prefetch > 0).then(|| self.looked + waiting / 4)
    }

    /// The broker takes a message that waits here for one that is held: a copy that it sends anew begins anew.
    fn renew(&mut self) {
        self.looked = Instant::now();
        for (key, item) in self.reader.hand_out.drain_waiting(self.reader.handle().hold_limit().waiting()) {
            self.acks.replace(key, Settlement::Release(item));
        }
    }

    /// Does what the pending receives call for.
    fn advance(&mut self) {
        self.reader.heed_hold_limit();
        self.reader.hand_out.put_returned();
        for (key, item) in self.reader.hand_out.drain_stale() {
            self.acks.replace(key, expired(item, self.reader.handle().now()));
        }
        if !self.phase.is_open() {
            self.source.detach(0);
            return self.give_back();
        }
        if self.reader.subscription.prefetch > 0 { self.advance_push() } else { self.advance_pull() }
    }

    fn advance_push(&mut self) {
        if self.source.is_idle() && self.phase == Phase::Serving {
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
                self.empty_for = Some(demand.round);
            }
        } else if self.source.is_idle()
            && self.arrivals.is_empty()
            && !self.acks.is_recovering()
            && self.phase == Phase::Serving
        {
            if !demand.immediate && self.empty_for.is_some_and(|round| demand.round <= round) {
                self.source.attach();
            } else {
                self.source.get(demand.messages.max(self.sweep.size), demand.round);
            }
        }
    }

    /// What nobody waits for goes back at once, its attempt unburned.
    fn give_back(&mut self) {
        for (key, item) in self.reader.hand_out.drain() {
            self.acks.replace(key, Settlement::Release(item));
        }
    }

    fn received(&mut self, event: SourceEvent) {
        self.reader.hand_out.pending.set_trouble(None);
        match event {
            SourceEvent::Got(got, more, asked) => {
                self.empty_for = self.empty_for.max(Some(asked)).filter(|_| got.is_empty());
                if got.is_empty() {
                    self.found_nothing(asked);
                }
                self.arrived(got, Some(more));
            }
            SourceEvent::Attached => {}
            SourceEvent::Sent(deliveries) => {
                self.empty_for = None;
                // First the end of the consumer, then the hand-out: an ack that overtook it would bring a message that nobody
                // waits for.
                if self.reader.subscription.prefetch == 0 {
                    self.source.detach(0);
                }
                self.arrived(deliveries, None);
            }
            SourceEvent::Detached(rest, asked) => {
                if rest.is_empty() {
                    self.found_nothing(asked);
                }
                self.arrived(rest, None);
            }
            SourceEvent::AllSent(asked) => self.found_nothing(asked),
        }
    }

    fn found_nothing(&mut self, asked: u64) {
        self.empty_for = self.empty_for.map(|round| round.max(asked));
        self.reader.hand_out.pending.exhausted(asked, None);
    }

    /// These came, with so many more in the queue where that was asked.
    fn arrived(&mut self, deliveries: Vec<Delivery>, more: Option<usize>) {
        for delivery in &deliveries {
            self.acks.received(delivery.delivery_tag);
        }
        self.arrivals.add(deliveries, more);
        self.sort_if_told();
    }

    fn sort_if_told(&mut self) {
        let ours = || self.reader.handle().boot();
        if self.arrivals.can_be_told(ours) {
            self.sort();
        }
    }

    /// Sorts what came and does what is to be done with each.
    fn sort(&mut self) {
        let (mut ready, mut renewed) = (Vec::new(), Vec::new());
        let (mut came_back, mut received) = (0, 0);
        let more = self.arrivals.more();
        let by_name = self.reader.life_by_name();
        for delivery in self.arrivals.take() {
            received += 1;
            let key = Key { epoch: self.epoch, tag: delivery.delivery_tag };
            let age = self.arrivals.age(&delivery);
            let life = self.reader.life(&delivery).unwrap_or_else(|| by_name.clone());
            let raw = Raw { properties: delivery.properties, body: delivery.data.into() };
            match self.triage.sort(raw, delivery.redelivered, age, life, self.reader.handle().now()) {
                Action::HandOut(item) => ready.push((key, item)),
                Action::Renew(item) => renewed.push((key, item)),
                Action::Replace(settlement) => {
                    came_back += usize::from(matches!(settlement, Settlement::Recovery(_)));
                    self.acks.replace(key, settlement);
                }
                Action::Reject => self.acks.reject(key.tag),
            }
        }
        if !ready.is_empty() {
            self.reader.hand_out.put(ready);
        }
        if !renewed.is_empty() {
            let (keys, items) = renewed.into_iter().unzip();
            self.acks.renew(keys, items);
        }
        if let Some(more) = more {
            self.sweep.adapt(received, came_back, more);
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
