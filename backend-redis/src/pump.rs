//! The task of a consumer: claims what its receives want, when somebody says that there is something, when something is due,
//! and every five seconds in case nobody said.

mod known;

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::{Deadline, Demand, Jitter};
use polyqueue::{Delivery, Error, Result};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use crate::claim::{Claimed, Clock};
use crate::consumer::Core;
use crate::wakers::pass_on;

/// The longest that a waiting consumer asks nothing.
const SAFETY: Duration = Duration::from_secs(5);
/// How much longer, by chance.
const SAFETY_JITTER: Duration = Duration::from_millis(200);
/// When a consumer finds nothing although something was due, others got it. So that they do not all ask again in the same
/// instant, each waits, by chance, up to this long for each that waits: some of them are early, few ask.
const HERD: Duration = Duration::from_millis(1);
/// The most that one waits for that.
const HERD_MOST: Duration = Duration::from_millis(100);
/// How long it asks nothing after a claim that failed, and as much again by chance.
const REST: Duration = Duration::from_millis(100);
/// The most messages of one receive.
const MAX_MESSAGES: usize = 10_000;
/// About the most bytes of one receive.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The most messages of one claim.
const CHUNK: usize = 100;

/// Runs until the consumer is closed or dropped.
pub(crate) async fn run(core: Arc<Core>) {
    let _busy = core.hub.busy.enter();
    let mut pump = Pump {
        core,
        arrivals: 0,
        next: Instant::now(),
        due: false,
        sparse: true,
        waits: false,
        unheard: false,
        polite: None,
        clock: None,
        trouble: None,
        chance: Jitter::default(),
    };
    while !pump.core.pending.is_closed() {
        pump.turn().await;
    }
    pump.end().await;
}

struct Pump {
    core: Arc<Core>,
    /// Receives up to this one have been asked for.
    arrivals: u64,
    /// When to ask although nobody said anything.
    next: Instant,
    /// Whether that is because something is due then.
    due: bool,
    /// Whether the last claim found less than it asked for.
    sparse: bool,
    /// Whether publishers may know it as one that waits.
    waits: bool,
    /// Whether one has found it that may not have been heard yet.
    unheard: bool,
    /// Until when it asks for nothing more, unless there is a verdict before.
    polite: Option<Instant>,
    /// The last look at the server's clock.
    clock: Option<Clock>,
    /// What the last claim failed with.
    trouble: Option<Error>,
    chance: Jitter,
}

impl Pump {
    async fn turn(&mut self) {
        self.take_given().await;
        let returned = self.core.pending.returned();
        self.core.give_back(&returned).await;
        let Some(demand) = self.core.pending.demand() else {
            return self.idle().await;
        };
        drop(self.core.leases.ended(usize::MAX));
        match self.core.leases.capacity() {
            0 => self.full(&demand).await,
            room => self.hungry(&demand, room).await,
        }
    }

    /// It may hold no more: somebody else takes what there is, until a verdict or the end of a lease makes room.
    async fn full(&mut self, demand: &Demand) {
        if self.core.bell.take_rung() {
            self.found();
            self.pass_on();
        }
        if self.waits {
            self.last_call().await;
        }
        self.ask_at_once();
        self.core.pending.exhausted(demand.round, None);
        if let Some(demand) = self.core.pending.demand() {
            let end = self.core.leases.next_end();
            self.rest(end.map_or(demand.until, |end| end.min(demand.until))).await;
        }
    }

    async fn hungry(&mut self, demand: &Demand, room: usize) {
        let rung = self.core.bell.take_rung();
        if rung {
            self.found();
        }
        if let Some(until) = self.polite
            && !rung
            && !self.core.judged()
            && Instant::now() < until
        {
            return self.rest(until).await;
        }
        self.polite = None;
        let told = rung || demand.round > self.arrivals;
        if told || Instant::now() >= self.next {
            let herd = self.due && !told;
            self.ask(demand, room, herd).await;
        }
        if (self.waits || self.unheard) && self.is_late() {
            if self.last_call().await {
                return;
            }
            // Whoever still waits has to be known again.
            self.ask_at_once();
        }
        self.core.pending.exhausted(self.arrivals, self.trouble.as_ref());
        if let Some(demand) = self.core.pending.demand()
            && demand.round <= self.arrivals
        {
            self.rest(self.next.min(demand.until)).await;
        }
    }

    /// Whether the time of one is up.
    fn is_late(&self) -> bool {
        self.core.pending.demand().is_some_and(|demand| demand.immediate)
    }

    /// Sleeps until there is a reason to look again.
    async fn rest(&self, until: Instant) {
        tokio::select! {
            () = self.core.bell.wait() => {}
            () = self.core.pending.changed() => {}
            () = self.core.leases.changed() => {}
            () = sleep_until(until) => {}
        }
    }

    /// Wakes somebody else in our place.
    fn pass_on(&self) {
        tokio::spawn(pass_on(self.core.hub.link.clone(), self.core.route.keys.clone()));
    }

    fn ask_at_once(&mut self) {
        (self.next, self.due) = (Instant::now(), false);
    }

    /// `herd`: nobody told us, many others may ask in the same instant for the same reason.
    async fn ask(&mut self, demand: &Demand, room: usize, herd: bool) {
        // A verdict that was just pronounced goes first.
        yield_now().await;
        self.arrivals = demand.round;
        let wanted = demand.messages.min(room).min(MAX_MESSAGES);
        match self.claim(demand, wanted, herd).await {
            Ok(deliveries) => {
                self.trouble = None;
                if !deliveries.is_empty() {
                    // Who still waits is known to no publisher yet: only a claim that finds nothing makes it known.
                    self.ask_at_once();
                }
                let surplus = self.core.hand_out(deliveries);
                self.core.give_back(&surplus).await;
            }
            Err(error) => self.failed(error),
        }
    }

    /// Claims until there is enough, or no more.
    async fn claim(&mut self, demand: &Demand, wanted: usize, herd: bool) -> Result<Vec<Delivery>> {
        let mut deliveries: Vec<Delivery> = Vec::new();
        let mut bytes = 0;
        while deliveries.len() < wanted && bytes < MAX_BYTES {
            let count = (wanted - deliveries.len()).min(CHUNK);
            let park = demand.patient && deliveries.is_empty();
            let claimed = match self.core.claim(count, park, self.sparse, self.limit(demand)).await {
                Ok(claimed) => claimed,
                Err(_) if !deliveries.is_empty() => break,
                Err(error) => {
                    self.waits |= park;
                    return Err(error);
                }
            };
            self.set_next(&claimed, herd);
            self.sparse = !claimed.full;
            self.clock = Some(claimed.clock);
            if park {
                self.unheard |= self.waits && !claimed.known;
                self.waits = claimed.messages.is_empty() && !claimed.full;
            }
            let (full, unreadable) = (claimed.full, claimed.messages.iter().any(|m| m.message.is_err()));
            let readable = self.core.readable(claimed.messages).await;
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
        let deadline = self.core.hub.deadline;
        let limit = Deadline::new("receive", deadline);
        let little = Instant::now() + deadline.min(Duration::from_secs(2));
        if demand.patient { limit.connect_by(demand.until.max(little)) } else { limit }
    }

    fn set_next(&mut self, claimed: &Claimed, herd: bool) {
        let safety = self.chance.between(SAFETY, SAFETY_JITTER);
        let due = claimed.next.filter(|next| *next < safety);
        let wait = match due {
            _ if claimed.more => Duration::ZERO,
            Some(due) if herd => due.max(self.chance.between(Duration::ZERO, spread(claimed.crowd))),
            Some(due) => due,
            None => safety,
        };
        (self.next, self.due) = (Instant::now() + wait, due.is_some());
    }

    fn failed(&mut self, error: Error) {
        (self.next, self.due) = (Instant::now() + self.chance.between(REST, REST), false);
        if error.is_transient() {
            tracing::debug!(name: "redis.claim_failed", queue = %self.core.route.queue, %error);
        } else {
            self.core.pending.fail(&error);
        }
        self.trouble = Some(error);
    }
}

fn spread(crowd: u64) -> Duration {
    HERD.saturating_mul(u32::try_from(crowd).unwrap_or(u32::MAX)).min(HERD_MOST)
}
