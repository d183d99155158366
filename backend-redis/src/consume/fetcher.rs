//! The task of a consumer: claims what its receives want, when somebody says that there is something, when something is due,
//! and every five seconds in case nobody said.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::{Deadline, Demand, Jitter};
use polyqueue::{Delivery, Error, Result};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::clock::Clock;
use crate::connection::listening::check_listening;
use crate::connection::probe::await_notifications;
use crate::consume::claim::Place;
use crate::consume::orphans::pass_on;
use crate::consume::pushed::Pushed;
use crate::consume::registration::Registration;
use crate::consume::schedule::NextClaim;
use crate::consume::state::ConsumerState;

/// How long it asks nothing after a claim that failed, and as much again by chance.
const REST: Duration = Duration::from_millis(100);
/// The most messages of one receive.
const MAX_MESSAGES: usize = 10_000;
/// About the most bytes of one receive.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// After so long no more is added to what was claimed.
const LONG_ENOUGH: Duration = Duration::from_millis(500);
/// The most messages of one claim.
const CHUNK: usize = 100;

/// How long after it was given a message it asks for more at the latest: with the first verdict, for until then a handler may
/// have something to send that matters more.
const HOLD_OFF: Duration = Duration::from_millis(1);
/// How long it stays known as one that waits after its last receive was dropped: the next one follows at once as a rule.
const STAY_LISTED: Duration = Duration::from_millis(10);
/// How long it tries to be found no longer.
const DEREGISTER_WITHIN: Duration = Duration::from_secs(1);

/// Runs until the consumer is closed or dropped.
pub(crate) async fn run(state: Arc<ConsumerState>) {
    let _busy = state.handle.lifecycle.enter();
    let mut fetcher = Fetcher {
        state,
        arrivals: 0,
        next: NextClaim::Now,
        sparse: true,
        registration: Registration::default(),
        hold_off: None,
        clock: None,
        last_given: 0,
        has_missed: false,
        trouble: None,
        chance: Jitter::default(),
    };
    while !fetcher.state.pending.is_closed() {
        fetcher.turn().await;
    }
    fetcher.end().await;
}

struct Fetcher {
    state: Arc<ConsumerState>,
    /// Receives up to this one have been asked for.
    arrivals: u64,
    next: NextClaim,
    /// Whether the last claim found less than it asked for.
    sparse: bool,
    registration: Registration,
    /// Until when it asks for nothing more, unless there is a verdict before.
    hold_off: Option<Instant>,
    /// The last look at the server's clock.
    clock: Option<Clock>,
    /// When it was last given something, by the server's clock in µs.
    last_given: u64,
    /// Something may have been given to it and not come.
    has_missed: bool,
    /// What the last claim failed with.
    trouble: Option<Error>,
    chance: Jitter,
}

impl Fetcher {
    async fn turn(&mut self) {
        if self.state.signal.take_anew() {
            self.recover_given().await;
        }
        self.take_pushed().await;
        let returned = self.state.pending.returned();
        self.state.give_back(&returned).await;
        let Some(demand) = self.state.pending.demand() else {
            return self.idle().await;
        };
        drop(self.state.verdicts.leases.ended(usize::MAX));
        match self.state.verdicts.leases.capacity() {
            0 => self.at_capacity(&demand).await,
            room => self.fetch(&demand, room).await,
        }
    }

    /// It may hold no more: somebody else takes what there is, until a verdict or the end of a lease makes room.
    async fn at_capacity(&mut self, demand: &Demand) {
        if self.state.signal.take_rung() {
            self.found();
            self.pass_on();
        }
        if self.registration.is_listed() {
            self.deregister().await;
        }
        self.ask_at_once();
        self.state.pending.exhausted(demand.round, None);
        if let Some(demand) = self.state.pending.demand() {
            let end = self.state.verdicts.leases.next_end();
            self.rest(end.map_or(demand.until, |end| end.min(demand.until))).await;
        }
    }

    async fn fetch(&mut self, demand: &Demand, room: usize) {
        let rung = self.state.signal.take_rung();
        if rung {
            self.found();
        }
        if let Some(until) = self.hold_off
            && !rung
            && !self.state.verdict_given()
            && Instant::now() < until
        {
            return self.rest(until).await;
        }
        self.hold_off = None;
        if matches!(self.next, NextClaim::Poll(_)) && self.next.has_come() && self.registration.is_listed() {
            check_listening(&self.state.handle.node);
        }
        let told = rung || demand.round > self.arrivals;
        if told || self.next.has_come() {
            let unprompted = matches!(self.next, NextClaim::Due(_)) && !told;
            self.ask(demand, room, unprompted).await;
        }
        if self.registration.is_open() && self.is_late() {
            if self.deregister().await {
                return;
            }
            // Whoever still waits has to be known again.
            self.ask_at_once();
        }
        // One whose time ends at this moment is answered only once publishers can find it no more.
        if !self.registration.is_open() {
            self.state.pending.exhausted(self.arrivals, self.trouble.as_ref());
        }
        if let Some(demand) = self.state.pending.demand()
            && demand.round <= self.arrivals
        {
            self.rest(self.next.at().map_or_else(Instant::now, |next| next.min(demand.until))).await;
        }
    }

    /// Whether the time of one is up.
    fn is_late(&self) -> bool {
        self.state.pending.demand().is_some_and(|demand| demand.immediate)
    }

    /// Sleeps until there is a reason to look again.
    async fn rest(&self, until: Instant) {
        tokio::select! {
            () = self.state.signal.wait() => {}
            () = self.state.pending.changed() => {}
            () = self.state.verdicts.leases.changed() => {}
            () = sleep_until(until) => {}
        }
    }

    /// Wakes somebody else in our place.
    fn pass_on(&self) {
        tokio::spawn(pass_on(self.state.handle.node.clone(), self.state.keys.clone()));
    }

    fn ask_at_once(&mut self) {
        self.next = NextClaim::Now;
    }

    /// `unprompted`: nobody told us, many others may ask in the same instant for the same reason.
    async fn ask(&mut self, demand: &Demand, room: usize, unprompted: bool) {
        // A verdict that was just pronounced goes first.
        yield_now().await;
        self.arrivals = demand.round;
        let wanted = demand.messages.min(room).min(MAX_MESSAGES);
        match self.claim(demand, wanted, unprompted).await {
            Ok(deliveries) => {
                self.trouble = None;
                if !deliveries.is_empty() {
                    // Who still waits is known to no publisher yet: only a claim that finds nothing makes it known.
                    self.ask_at_once();
                }
                let surplus = self.state.hand_out(deliveries);
                self.state.give_back(&surplus).await;
            }
            Err(Error::NotFound(_)) if self.state.revive().await => {
                self.next = NextClaim::Poll(Instant::now() + self.chance.between(REST, REST));
            }
            Err(error) => self.failed(error),
        }
    }

    /// Claims until there is enough, or no more.
    async fn claim(&mut self, demand: &Demand, wanted: usize, unprompted: bool) -> Result<Vec<Delivery>> {
        let mut deliveries: Vec<Delivery> = Vec::new();
        let (mut bytes, began) = (0, Instant::now());
        while deliveries.len() < wanted && bytes < MAX_BYTES {
            // What is here is not kept waiting for what is long in coming.
            if !deliveries.is_empty() && began.elapsed() >= LONG_ENOUGH {
                break;
            }
            let count = (wanted - deliveries.len()).min(CHUNK);
            let park = demand.patient && deliveries.is_empty();
            let listed = self.registration.is_listed();
            let place = Place { park, listed };
            let claimed = match self.state.claim(count, place, self.sparse, self.limit(demand)).await {
                Ok(claimed) => claimed,
                Err(_) if !deliveries.is_empty() => break,
                Err(error) => {
                    if park {
                        self.registration = self.registration.maybe_listed();
                    }
                    return Err(error);
                }
            };
            self.next = NextClaim::after(&claimed, unprompted, &self.chance);
            self.sparse = !claimed.full;
            self.clock = Some(claimed.clock);
            if listed && !claimed.known {
                self.registration = self.registration.claimed(false, false);
                self.hear_who_found_it().await;
                return Ok(deliveries);
            }
            let is_nothing = claimed.messages.is_empty() && !claimed.full;
            if park || (listed && !is_nothing) {
                self.registration = self.registration.claimed(is_nothing, claimed.known);
            }
            let (full, unreadable) = (claimed.full, claimed.messages.iter().any(|m| m.message.is_err()));
            let readable = self.state.readable(claimed.messages).await;
            bytes += readable.iter().map(|delivery| delivery.message.payload().len()).sum::<usize>();
            deliveries.extend(readable);
            let only_garbage = unreadable && deliveries.is_empty();
            if !full && !only_garbage {
                break;
            }
        }
        deliveries.sort_by_key(|delivery| std::cmp::Reverse(delivery.message.priority()));
        Ok(deliveries)
    }

    /// Without a connection, a receive that waits only a little ends not much later.
    fn limit(&self, demand: &Demand) -> Deadline {
        let deadline = self.state.handle.deadline;
        let limit = Deadline::new("receive", deadline);
        let little = Instant::now() + deadline.min(Duration::from_secs(2));
        if demand.patient { limit.connect_by(demand.until.max(little)) } else { limit }
    }

    fn failed(&mut self, error: Error) {
        self.next = NextClaim::Poll(Instant::now() + self.chance.between(REST, REST));
        if error.is_transient() {
            tracing::debug!(name: "redis.claim_failed", queue = %self.state.queue, %error, "messages could not be fetched, and are tried again");
        } else {
            self.state.pending.fail(&error);
        }
        self.trouble = Some(error);
    }

    /// Hands out what the server gave; what nobody wants, or may not be held, goes back.
    async fn take_pushed(&mut self) {
        let pushed = Pushed::read_all(self.state.signal.take_pushed());
        if pushed.is_empty() {
            return;
        }
        self.found();
        self.last_given = pushed.iter().map(Pushed::given_at).fold(self.last_given, u64::max);
        let Some(clock) = self.clock else {
            for pushed in pushed {
                pushed.give_back(self.state.handle.node.clone()).await;
            }
            return;
        };
        self.state.forget_verdict();
        self.hold_off = Some(Instant::now() + HOLD_OFF);
        let mut deliveries = self.state.accept(pushed, clock).await;
        let beyond = deliveries.split_off(self.state.verdicts.leases.capacity().min(deliveries.len()));
        let surplus = self.state.hand_out(deliveries);
        self.state.give_back(&surplus).await;
        self.state.give_back(&beyond).await;
    }

    /// Nobody wants anything.
    async fn idle(&mut self) {
        if self.state.signal.take_rung() {
            self.found();
            self.pass_on();
        }
        if !self.registration.is_listed() {
            return tokio::select! {
                () = self.state.signal.wait() => {}
                () = self.state.pending.changed() => {}
            };
        }
        tokio::select! {
            () = self.state.signal.wait() => {}
            () = self.state.pending.changed() => {}
            () = sleep(STAY_LISTED) => drop(self.deregister().await),
        }
    }

    /// Somebody has found it among those that wait, before a claim that therefore did nothing: what he gave comes first, and then it
    /// asks again.
    async fn hear_who_found_it(&mut self) {
        let limit = Deadline::new("hearing of a message", DEREGISTER_WITHIN.min(self.state.handle.deadline));
        self.await_notifications(limit).await;
        self.registration = Registration::default();
        self.arrivals = self.arrivals.saturating_sub(1);
        self.ask_at_once();
    }

    /// Somebody has found it among those that wait.
    fn found(&mut self) {
        self.registration = self.registration.found();
        self.ask_at_once();
    }

    /// Publishers find others from now on. Answers whether one has found it just before, and what that led to is here.
    async fn deregister(&mut self) -> bool {
        let limit = Deadline::new("leaving a queue", DEREGISTER_WITHIN.min(self.state.handle.deadline));
        if self.registration.is_listed() {
            self.registration = self.registration.left(self.state.leave(limit).await);
        }
        if !std::mem::take(&mut self.registration).is_open() {
            return false;
        }
        self.await_notifications(limit).await;
        self.state.signal.has_news()
    }

    async fn await_notifications(&mut self, limit: Deadline) {
        if !await_notifications(&self.state.handle.node, limit).await {
            self.has_missed = true;
            check_listening(&self.state.handle.node);
        }
    }

    /// The connection was made anew: what was given to it before and is not here never comes, and goes back.
    async fn recover_given(&mut self) {
        let limit = Deadline::new("leaving a queue", DEREGISTER_WITHIN.min(self.state.handle.deadline));
        if self.registration.is_listed() {
            self.registration = self.registration.left(self.state.leave(limit).await);
        }
        self.has_missed |= std::mem::take(&mut self.registration).is_open();
        self.await_notifications(limit).await;
        self.take_pushed().await;
        self.ask_at_once();
        if !self.has_missed {
            return;
        }
        match self.state.give_back_unheard(self.last_given).await {
            Ok(()) => self.has_missed = false,
            Err(error) => {
                tracing::debug!(name: "redis.recovery_failed", queue = %self.state.queue, %error, "what was given and not heard could not be given back yet");
                self.state.signal.set_anew();
                sleep(REST).await;
            }
        }
    }

    /// It has ended: nothing must be given to it any more, and what was comes back.
    async fn end(&mut self) {
        self.deregister().await;
        self.state.stop_listening();
        self.take_pushed().await;
        let returned = self.state.pending.returned();
        self.state.give_back(&returned).await;
        if self.state.signal.take_rung() {
            self.pass_on();
        }
    }
}
