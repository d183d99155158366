//! The rules of one queue, without a runtime: time is a number.

mod attempts;
mod bounds;
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

use polyqueue::{
    DeadBody, DeadFilter, DeadId, DeadLetter, DeadReason, Dedup, Error, Message, MessageId, Overflow, Page,
    Priority, Purge, QueueName, QueueSpec, Reschedule, Settled, Subscription, Verdict,
};

use super::{Answer, Asked, Effects, Entry, Handed, Item, Line, Tally, Ticket};
use crate::budget::Budget;
use crate::clock::{At, Clock};
use crate::receipt::{ReaderId, Stub};

const QUEUE: QueueName = QueueName::from_static("q");
const A: ReaderId = ReaderId(1);
const B: ReaderId = ReaderId(2);
const LEASE: u64 = 5;
const RETRY: Verdict = Verdict::Retry { after: Duration::ZERO, error: String::new() };

/// A queue, its time in seconds, and two consumers, A and B.
struct Bench {
    line: Line,
    woken: Vec<Ticket>,
    /// Published, duplicates, refused, overflowed, dropped.
    tally: [u64; 5],
}

impl Bench {
    fn new() -> Self {
        Self::of(QueueSpec::new(QUEUE))
    }

    fn of(spec: QueueSpec) -> Self {
        let line = Line::new(&spec, Clock::start(), 0);
        let mut bench = Self { line, woken: Vec::new(), tally: [0; 5] };
        bench.join(A, terms());
        bench.join(B, terms());
        bench
    }

    fn join(&mut self, reader: ReaderId, terms: Subscription) {
        self.call(|line| line.join(reader, &terms));
    }

    fn call<R>(&mut self, act: impl FnOnce(&mut Line) -> R) -> R {
        self.at(self.line.now(), act)
    }

    fn at<R>(&mut self, now: At, act: impl FnOnce(&mut Line) -> R) -> R {
        self.line.advance(now);
        let answer = act(&mut self.line);
        let Effects { woken, tally, .. } = self.line.effects();
        self.woken.extend(woken);
        let Tally { published, duplicates, refused, overflowed, dropped } = tally;
        for (sum, more) in self.tally.iter_mut().zip([published, duplicates, refused, overflowed, dropped]) {
            *sum += more;
        }
        answer
    }

    /// Lets seconds pass.
    fn pass(&mut self, seconds: u64) {
        let now = self.line.now().plus(Duration::from_secs(seconds));
        self.at(now, |_| ());
    }

    fn publish(&mut self, message: Message) {
        self.publish_all([message]);
    }

    fn publish_all(&mut self, messages: impl IntoIterator<Item = Message>) {
        let items = messages.into_iter().map(item).collect::<Vec<_>>();
        self.call(|line| {
            items.into_iter().for_each(|item| line.enter(item));
            line.announce();
        });
    }

    /// Publishes it if it may enter; what was said of it.
    fn offer(&mut self, message: Message) -> Entry {
        self.call(|line| {
            let entry = line.look(&message);
            if let Entry::Open = entry {
                line.enter(item(message));
                line.announce();
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
    fn take(&mut self, reader: ReaderId, max: usize) -> Vec<Handed> {
        match self.call(|line| line.ask(reader, max, false)) {
            Asked::Handed(handed) => handed,
            Asked::Wait(_) => panic!("it was not to wait"),
        }
    }

    fn one(&mut self, reader: ReaderId) -> Handed {
        self.take(reader, 1).pop().expect("something is ready")
    }

    fn wait(&mut self, reader: ReaderId, max: usize) -> Ticket {
        match self.call(|line| line.ask(reader, max, true)) {
            Asked::Wait(ticket) => ticket,
            Asked::Handed(handed) => panic!("handed {handed:?}"),
        }
    }

    fn wait_or_take(&mut self, reader: ReaderId) -> Vec<Handed> {
        match self.call(|line| line.ask(reader, 1, true)) {
            Asked::Handed(handed) => handed,
            Asked::Wait(ticket) => self.fetch(ticket).unwrap_or_default(),
        }
    }

    fn fetch(&mut self, ticket: Ticket) -> Option<Vec<Handed>> {
        match self.call(|line| line.fetch(ticket))? {
            Answer::Handed(handed) => Some(handed),
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, reader: ReaderId, stub: Stub, verdict: Verdict) -> Settled {
        self.call(|line| line.settle(reader, stub, &verdict)).0
    }

    fn letters(&mut self) -> Vec<DeadLetter> {
        self.call(|line| line.dead_letters(&DeadFilter::all(), &Page::first(500))).unwrap().letters
    }

    /// Ready, delayed, in flight, dead.
    fn counts(&mut self) -> [u64; 4] {
        let stats = self.call(|line| line.stats());
        [stats.ready, stats.delayed.unwrap(), stats.in_flight.unwrap(), stats.dead]
    }
}

fn item(message: Message) -> Box<Item> {
    let room = Budget::new(u64::MAX).reserve(&message).unwrap();
    Item::new(message, room)
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

fn texts(handed: &[Handed]) -> Vec<&str> {
    handed.iter().map(|one| std::str::from_utf8(one.message.payload()).unwrap()).collect()
}

fn level(level: u8) -> Priority {
    Priority::new(level).unwrap()
}

fn retry(after: u64) -> Verdict {
    Verdict::retry(seconds(after), "boom")
}
