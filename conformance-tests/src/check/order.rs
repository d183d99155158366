//! H16 priority, H17 first in, first out: sound under concurrency, because only calls that surely came one after the other
//! are compared.

use std::collections::{BTreeMap, HashMap};

use polyqueue::{MessageId, QueueName};

use super::found::{Bounds, Found};
use super::view::{Fate, Life, Line, Publish, Receive, View};

/// Redis makes due messages ready a hundred at a call: of more at once nobody can say which are.
const DUE_AT_ONCE: usize = 100;

pub(super) fn check(view: &View<'_>, bounds: &Bounds, found: &mut Found) {
    for (&queue, line) in &view.queues {
        // What is parked in a client's buffer is neither ready nor handed out.
        if line.parks() || line.blind {
            continue;
        }
        let order = Order::of(view, bounds, queue, line);
        for receive in &line.receives {
            if view.trusts(receive.ret) && !line.hidden_before(receive.ret) {
                order.outranked(queue, receive, found);
                order.overtaken(queue, receive, found);
            }
        }
    }
}

/// A message that waits for its first hand-out.
#[derive(Debug)]
struct Waiting<'a> {
    id: &'a MessageId,
    priority: u8,
    /// From this moment on it surely was ready.
    ready: u64,
    /// When the call began that handed it out first; never, at the end of all numbers.
    taken: u64,
    publish: &'a Publish<'a>,
}

struct Order<'a> {
    waiting: HashMap<&'a MessageId, Waiting<'a>>,
    by_priority: BTreeMap<u8, Latest<'a>>,
    fifo: BTreeMap<u8, Latest<'a>>,
    /// The same inside one batch, by the place in it.
    batches: HashMap<(u64, u8), Latest<'a>>,
}

impl<'a> Order<'a> {
    fn of(view: &'a View<'a>, bounds: &Bounds, queue: &QueueName, line: &Line<'_>) -> Self {
        let lives = || view.lives.iter().filter(|((in_queue, _), _)| *in_queue == queue);
        let late = lives().map(|(_, life)| comes_due(life)).sum::<usize>();
        let waiting: HashMap<_, _> = lives()
            .filter_map(|((_, id), life)| waiting(bounds, line, id, life, late <= DUE_AT_ONCE))
            .map(|waiting| (waiting.id, waiting))
            .collect();
        let mut by_priority: BTreeMap<u8, Vec<Item<'a>>> = BTreeMap::new();
        let mut fifo: BTreeMap<u8, Vec<Item<'a>>> = BTreeMap::new();
        let mut batches: HashMap<(u64, u8), Vec<Item<'a>>> = HashMap::new();
        for it in waiting.values() {
            by_priority.entry(it.priority).or_default().push((it.ready, it.taken, it.id));
            if it.publish.sent.delay.is_zero() {
                fifo.entry(it.priority).or_default().push((it.ready, it.taken, it.id));
                let batch = (it.publish.span.inv.seq, it.priority);
                batches.entry(batch).or_default().push((it.publish.index as u64, it.taken, it.id));
            }
        }
        let latest = |all: BTreeMap<u8, Vec<Item<'a>>>| {
            all.into_iter().map(|(level, items)| (level, Latest::new(items))).collect()
        };
        let batches = batches.into_iter().map(|(batch, items)| (batch, Latest::new(items))).collect();
        Self { waiting, by_priority: latest(by_priority), fifo: latest(fifo), batches }
    }

    /// H16: nothing is handed out while something more urgent was ready during the whole call.
    fn outranked(&self, queue: &QueueName, receive: &Receive<'_>, found: &mut Found) {
        let mut lowest = u8::MAX;
        for handout in receive.came {
            let priority = handout.envelope.priority;
            let better = self.waiting.get(&handout.id);
            if better.is_some_and(|it| {
                lowest < priority && it.taken == receive.inv.seq && it.ready < receive.inv.seq
            }) {
                let text =
                    format!("{} came out of {queue} after one of priority {lowest} in one call", handout.id);
                found.add("H16", text);
            }
            lowest = lowest.min(priority);
            for (level, latest) in self.by_priority.range(priority + 1..) {
                if let Some(id) = latest.waits_over(receive.inv.seq, receive.ret.seq) {
                    let what = format!("{} (priority {priority})", handout.id);
                    found.add("H16", format!("{what} came out of {queue} before {id} (priority {level})"));
                }
            }
        }
    }

    /// H17: inside one priority the first hand-outs come in the order of publication.
    fn overtaken(&self, queue: &QueueName, receive: &Receive<'_>, found: &mut Found) {
        let mut newest: BTreeMap<u8, &Publish<'_>> = BTreeMap::new();
        for handout in receive.came {
            let Some(it) = self.waiting.get(&handout.id) else { continue };
            if it.taken != receive.inv.seq || !it.publish.sent.delay.is_zero() {
                continue;
            }
            let (id, level) = (it.id, it.priority);
            if newest.get(&level).is_some_and(|newer| precedes(it.publish, newer)) {
                found.add("H17", format!("{id} came out of {queue} after a later one, in one call"));
            }
            if newest.get(&level).is_none_or(|newer| precedes(newer, it.publish)) {
                newest.insert(level, it.publish);
            }
            let waits = self
                .fifo
                .get(&level)
                .and_then(|all| all.waits_over(it.publish.span.inv.seq, receive.ret.seq));
            if let Some(first) = waits {
                found.add(
                    "H17",
                    format!("{id} came out of {queue} before {first}, which was published earlier"),
                );
            }
            if let Some(first) = self.earlier_in_batch(it, receive.ret.seq) {
                found.add("H17", format!("{id} came out of {queue} before {first}, earlier in its batch"));
            }
        }
    }

    /// A message of the same batch, before this one, that was not taken when this one came.
    fn earlier_in_batch(&self, it: &Waiting<'_>, ret: u64) -> Option<&'a MessageId> {
        let batch = (it.publish.span.inv.seq, it.priority);
        self.batches.get(&batch)?.waits_over(it.publish.index as u64, ret)
    }
}

/// How often a message becomes ready by the clock rather than by a call.
fn comes_due(life: &Life<'_>) -> usize {
    let delayed = life.publishes.iter().filter(|publish| !publish.sent.delay.is_zero()).count();
    delayed + life.moves.len() + life.holds.len().saturating_sub(1)
}

fn waiting<'a>(
    bounds: &Bounds,
    line: &Line<'_>,
    id: &'a MessageId,
    life: &'a Life<'a>,
    few_due: bool,
) -> Option<Waiting<'a>> {
    let publish = life.single().filter(|publish| publish.fate == Fate::Stored && life.moves.is_empty())?;
    let stored = publish.span.ret?;
    let mortal = publish.sent.envelope.ttl().is_some() || line.overflows() || !life.deaths.is_empty();
    let taken = match life.first() {
        Some(hold) if mortal && life.redriven_before(hold.ret) => return None,
        Some(hold) => hold.inv.seq,
        None if !mortal && line.purges.is_empty() && line.deletes.is_empty() => u64::MAX,
        None => return None,
    };
    let ready = if publish.sent.delay.is_zero() {
        stored.seq
    } else if few_due {
        let surely = stored.at + publish.sent.delay + bounds.late;
        line.receives
            .iter()
            .map(|receive| receive.inv)
            .filter(|inv| inv.at > surely)
            .map(|inv| inv.seq)
            .min()?
            - 1
    } else {
        return None;
    };
    Some(Waiting { id, priority: publish.sent.envelope.priority, ready, taken, publish })
}

/// Whether the one was surely published before the other.
fn precedes(a: &Publish<'_>, b: &Publish<'_>) -> bool {
    let one_batch = a.span.inv.seq == b.span.inv.seq;
    a.span.before(b.span.inv) || (one_batch && a.index < b.index)
}

/// When a message was ready, when it was taken, which it is.
type Item<'a> = (u64, u64, &'a MessageId);

/// Of the messages that were ready before a moment, the one that was taken last.
struct Latest<'a>(Vec<Item<'a>>);

impl<'a> Latest<'a> {
    fn new(mut items: Vec<Item<'a>>) -> Self {
        items.sort_unstable();
        for at in 1..items.len() {
            if items[at - 1].1 > items[at].1 {
                (items[at].1, items[at].2) = (items[at - 1].1, items[at - 1].2);
            }
        }
        Self(items)
    }

    /// One that was ready before `inv` and not yet being taken at `ret`.
    fn waits_over(&self, inv: u64, ret: u64) -> Option<&'a MessageId> {
        let ready = self.0.partition_point(|(ready, _, _)| *ready < inv);
        let (_, taken, id) = self.0[..ready].last()?;
        (*taken > ret).then_some(*id)
    }
}

/// A stored, undelayed message that was ready before a moment and not being taken at another, in one queue.
pub(super) struct Ready<'a>(Latest<'a>);

impl<'a> Ready<'a> {
    pub(super) fn of(view: &'a View<'a>, bounds: &Bounds, queue: &QueueName, line: &Line<'_>) -> Self {
        let lives = view.lives.iter().filter(|((in_queue, _), _)| *in_queue == queue);
        let waiting = lives.filter_map(|((_, id), life)| waiting(bounds, line, id, life, false));
        Self(Latest::new(waiting.map(|it| (it.ready, it.taken, it.id)).collect()))
    }

    pub(super) fn waits_over(&self, receive: &Receive<'_>) -> Option<&'a MessageId> {
        self.0.waits_over(receive.inv.seq, receive.ret.seq)
    }
}
