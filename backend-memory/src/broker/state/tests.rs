//! The rules of one queue, without a runtime: time is a number.

mod attempts;
mod bounds;
mod chunks;
mod dead;
mod dedup;
mod leases;
mod operating;
mod order;
mod reschedule;
mod retention;
mod ttl;
mod waiting;

use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::backend::EventSender;
use polyqueue::{
    DeadBody, DeadFilter, DeadId, DeadLetter, DeadPage, DeadReason, Dedup, Error, Message, MessageId,
    Overflow, Page, Priority, QueueName, QueueSpec, Reschedule, Settled, Subscription, Verdict,
};

use super::admin::DeadPurge;
use super::consume::ReceiveOutcome;
use super::dead_letters::Listing;
use super::due::Effects;
use super::ids::{ConsumerId, HandedOut, ReceiptParts, WaiterId};
use super::pending::WaitOutcome;
use super::publish::Admission;
use super::queue_state::{Counts, QueueState};
use super::reschedule::Rescheduling;
use super::stored::Stored;
use super::{admin, consume, due, publish, redrive, settle};
use crate::broker::budget::Budget;
use crate::broker::clock::{At, Clock};

const QUEUE: QueueName = QueueName::from_static("q");
const A: ConsumerId = ConsumerId(1);
const B: ConsumerId = ConsumerId(2);
const LEASE: u64 = 5;
const RETRY: Verdict = Verdict::Retry { after: Duration::ZERO, error: String::new() };

/// A queue, its time in seconds, and two consumers, A and B.
struct Bench {
    queue: QueueState,
    clock: Clock,
    woken: Vec<WaiterId>,
    /// Published, duplicates, refused, overflowed, dropped.
    counts: [u64; 5],
    /// So often the lock would have been held, at most for so many steps.
    holds: usize,
    most_steps: usize,
}

impl Bench {
    fn new() -> Self {
        Self::of(QueueSpec::new(QUEUE))
    }

    fn of(spec: QueueSpec) -> Self {
        let clock = Clock::start();
        let queue = QueueState::new(&spec, clock.clone(), EventSender::new(""), 0);
        let mut bench = Self { queue, clock, woken: Vec::new(), counts: [0; 5], holds: 0, most_steps: 0 };
        bench.join(A, terms());
        bench.join(B, terms());
        bench
    }

    fn join(&mut self, consumer: ConsumerId, terms: Subscription) {
        self.call(|queue| consume::join(queue, consumer, &terms));
    }

    fn call<R>(&mut self, act: impl FnOnce(&mut QueueState) -> R) -> R {
        self.at(self.queue.now(), act)
    }

    /// When all that is due is applied.
    fn at<R>(&mut self, now: At, act: impl FnOnce(&mut QueueState) -> R) -> R {
        loop {
            due::advance(&mut self.queue, now, 1);
            if self.queue.is_caught_up() {
                break;
            }
            self.leave();
        }
        let answer = act(&mut self.queue);
        self.leave();
        answer
    }

    /// In as many calls as it takes.
    fn in_parts(&mut self, mut part: impl FnMut(&mut QueueState) -> bool) {
        while !self.call(&mut part) {}
    }

    fn leave(&mut self) {
        self.holds += 1;
        self.most_steps = self.most_steps.max(self.queue.steps.taken());
        let Effects { woken, counts, .. } = due::effects(&mut self.queue);
        self.woken.extend(woken);
        let Counts { published, duplicates, refused, overflowed, dropped } = counts;
        for (sum, more) in self.counts.iter_mut().zip([published, duplicates, refused, overflowed, dropped]) {
            *sum += more;
        }
    }

    /// Lets seconds pass.
    fn pass(&mut self, seconds: u64) {
        let now = self.queue.now().plus(Duration::from_secs(seconds));
        self.at(now, |_| ());
    }

    fn publish(&mut self, message: Message) {
        self.publish_all([message]);
    }

    fn publish_all(&mut self, messages: impl IntoIterator<Item = Message>) {
        let items = messages.into_iter().map(item).collect::<Vec<_>>();
        self.call(|queue| {
            items.into_iter().for_each(|item| publish::enter(queue, item));
            publish::announce(queue);
        });
    }

    /// Publishes it if it may enter; what was said of it.
    fn offer(&mut self, message: Message) -> Admission {
        self.call(|queue| {
            let entry = publish::look(queue, &message);
            if let Admission::Open = entry {
                publish::enter(queue, item(message));
                publish::announce(queue);
            }
            entry
        })
    }

    /// The texts of the dead letters, with why they died.
    fn dead(&mut self) -> Vec<(String, DeadReason)> {
        let text =
            |letter: &DeadLetter| String::from_utf8(letter.message().unwrap().payload().to_vec()).unwrap();
        self.letters().iter().map(|letter| (text(letter), letter.reason)).collect()
    }

    fn put(&mut self, text: &'static str) {
        self.publish(Message::new(text));
    }

    /// What is ready now, as text.
    fn take(&mut self, consumer: ConsumerId, max: usize) -> Vec<HandedOut> {
        match self.call(|queue| consume::begin_receive(queue, consumer, max, false)) {
            ReceiveOutcome::HandedOut(handed) => handed,
            other => panic!("it was not to wait: {other:?}"),
        }
    }

    fn one(&mut self, consumer: ConsumerId) -> HandedOut {
        self.take(consumer, 1).pop().expect("something is ready")
    }

    fn wait(&mut self, consumer: ConsumerId, max: usize) -> WaiterId {
        match self.call(|queue| consume::begin_receive(queue, consumer, max, true)) {
            ReceiveOutcome::Wait(waiter) => waiter,
            other => panic!("it was to wait: {other:?}"),
        }
    }

    fn wait_or_take(&mut self, consumer: ConsumerId) -> Vec<HandedOut> {
        match self.call(|queue| consume::begin_receive(queue, consumer, 1, true)) {
            ReceiveOutcome::HandedOut(handed) => handed,
            ReceiveOutcome::Wait(waiter) => self.fetch(waiter).unwrap_or_default(),
            ReceiveOutcome::GoOn => Vec::new(),
        }
    }

    fn fetch(&mut self, waiter: WaiterId) -> Option<Vec<HandedOut>> {
        match self.call(|queue| consume::fetch(queue, waiter))? {
            WaitOutcome::HandedOut(handed) => Some(handed),
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, consumer: ConsumerId, receipt_parts: ReceiptParts, verdict: Verdict) -> Settled {
        self.call(|queue| settle::settle(queue, consumer, receipt_parts, &verdict)).0
    }

    fn letters(&mut self) -> Vec<DeadLetter> {
        self.page(&DeadFilter::all(), &Page::first(500)).dead_letters
    }

    fn page(&mut self, filter: &DeadFilter, page: &Page) -> DeadPage {
        let mut listing = Listing::new(filter, page).unwrap();
        self.in_parts(|queue| redrive::read_on(queue, &mut listing));
        listing.page()
    }

    fn purge_dead(&mut self) -> u64 {
        let mut purge = DeadPurge::default();
        self.in_parts(|queue| admin::purge_dead(queue, &mut purge));
        purge.removed
    }

    fn reschedule(&mut self, id: &str, to: Reschedule) -> bool {
        let id = MessageId::new(id).unwrap();
        let mut work = Rescheduling::new(&id, to);
        self.in_parts(|queue| super::reschedule::reschedule(queue, &mut work));
        work.found
    }

    /// Ready, delayed, in flight, dead.
    fn counts(&mut self) -> [u64; 4] {
        let stats = self.call(|queue| admin::stats(queue));
        [stats.ready, stats.delayed.unwrap(), stats.in_flight.unwrap(), stats.dead]
    }
}

fn item(message: Message) -> Box<Stored> {
    let room = Budget::new(u64::MAX, EventSender::new("")).reserve(&message).unwrap();
    Stored::new(message, room)
}

fn terms() -> Subscription {
    Subscription::new(QUEUE)
        .lease(seconds(LEASE))
        .max_attempts(NonZeroU32::new(3).unwrap())
        .consumer("worker")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn texts(handed: &[HandedOut]) -> Vec<&str> {
    handed.iter().map(|one| std::str::from_utf8(one.message.payload()).unwrap()).collect()
}

fn level(level: u8) -> Priority {
    Priority::new(level).unwrap()
}

fn retry(after: u64) -> Verdict {
    Verdict::retry(seconds(after), "boom")
}
