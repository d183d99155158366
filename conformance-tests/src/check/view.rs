//! A history in the order in which rules ask for it: by message and by queue.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::{Certainty, DeadId, Extended, MessageId, Purge, QueueName, Receipt, Settled, Verdict};
use tokio::time::Instant;

use crate::history::{Answer, Call, Dead, Event, Handout, History, Reader, Sent, Stamp};

/// A history, sorted by message and by queue.
#[derive(Debug, Default)]
pub(super) struct View<'a> {
    pub(super) lives: BTreeMap<(&'a QueueName, &'a MessageId), Life<'a>>,
    pub(super) queues: BTreeMap<&'a QueueName, Line<'a>>,
    /// Messages that came with a receipt which their consumer had seen before.
    pub(super) reused: Vec<(&'a QueueName, &'a MessageId)>,
    /// From here on effects may be hidden.
    fault: Option<u64>,
    pub(super) outsiders: bool,
}

/// What happened to one message in one queue.
#[derive(Debug, Default)]
pub(super) struct Life<'a> {
    pub(super) publishes: Vec<Publish<'a>>,
    /// In the order in which they happened.
    pub(super) holds: Vec<Hold<'a>>,
    pub(super) deaths: Vec<Seen<'a>>,
    pub(super) redrives: Vec<Span>,
}

/// A call's begin and end; without an end it may have an effect for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) inv: Stamp,
    pub(super) ret: Option<Stamp>,
}

impl Span {
    /// Whether it surely ended before that moment.
    pub(super) fn before(&self, moment: Stamp) -> bool {
        self.ret.is_some_and(|ret| ret.seq < moment.seq)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stored,
    Refused,
    Unknown,
}

#[derive(Debug)]
pub(super) struct Publish<'a> {
    pub(super) span: Span,
    pub(super) sent: &'a Sent,
    pub(super) fate: Fate,
    /// Its place in its batch.
    pub(super) index: usize,
}

/// One hand-out and what its holder did with it.
#[derive(Debug)]
pub(super) struct Hold<'a> {
    pub(super) consumer: u64,
    pub(super) reader: Option<Reader>,
    pub(super) inv: Stamp,
    pub(super) ret: Stamp,
    pub(super) handout: &'a Handout,
    pub(super) verdicts: Vec<Given<'a>>,
    pub(super) extensions: Vec<(Span, Answer<Extended>)>,
    /// When its consumer or its client ended, which may end the lease.
    pub(super) ended: Option<Stamp>,
}

#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) span: Span,
    pub(super) verdict: &'a Verdict,
    pub(super) answer: Answer<Settled>,
}

impl Given<'_> {
    pub(super) fn took_effect(&self) -> bool {
        matches!(self.answer, Some(Ok(Settled::Applied | Settled::Died)))
    }

    /// Whether it may have had an effect.
    pub(super) fn may_have(&self) -> bool {
        self.took_effect() || matches!(self.answer, None | Some(Err(Certainty::Unknown)))
    }

    /// Whether it ended the message's life.
    pub(super) fn is_last(&self) -> bool {
        match self.answer {
            Some(Ok(Settled::Died)) => true,
            Some(Ok(Settled::Applied)) => matches!(self.verdict, Verdict::Ack | Verdict::DeadLetter { .. }),
            _ => false,
        }
    }
}

impl<'a> Hold<'a> {
    /// The verdict that took effect.
    pub(super) fn settled(&self) -> Option<&Given<'a>> {
        self.verdicts.iter().find(|given| given.took_effect())
    }

    /// Until when the holder was told that the message is its own.
    pub(super) fn promised(&self) -> Instant {
        let told = self.extensions.iter().filter_map(|(_, answer)| match answer {
            Some(Ok(Extended::Until(until))) => Some(*until),
            _ => None,
        });
        told.fold(self.handout.lease_until, Instant::max)
    }

    /// When its lease ended at the latest, if nobody settled it; `None` when that cannot be said.
    pub(super) fn lease_over(&self) -> Option<Instant> {
        let lease = self.reader?.lease;
        let mut over = self.ret.at + lease;
        for (span, answer) in &self.extensions {
            match answer {
                Some(Ok(Extended::Until(_))) => over = over.max(span.ret?.at + lease),
                Some(Ok(Extended::LeaseLost) | Err(Certainty::Definite)) => {}
                None | Some(Err(Certainty::Unknown)) => return None,
            }
        }
        Some(over)
    }

    /// Whether a verdict that was begun before that moment may have ended its hold.
    pub(super) fn maybe_settled_before(&self, moment: Stamp) -> bool {
        self.verdicts.iter().any(|given| given.may_have() && given.span.inv.seq < moment.seq)
    }

    /// Whether a `Release` undid the attempt.
    pub(super) fn released(&self) -> bool {
        self.settled().is_some_and(|given| matches!(given.verdict, Verdict::Release { .. }))
    }
}

#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) inv: Stamp,
    pub(super) dead: &'a Dead,
}

/// What happened in one queue.
#[derive(Debug, Default)]
pub(super) struct Line<'a> {
    pub(super) readers: Vec<Reader>,
    pub(super) receives: Vec<Receive<'a>>,
    pub(super) deletes: Vec<Span>,
    pub(super) purges: Vec<(Span, Purge)>,
    /// Dead letters were redriven or discarded whose messages the history does not know.
    pub(super) blind: bool,
    /// Calls after which somebody else may hold messages unseen: receives that were dropped or failed.
    pub(super) hidden: Vec<Span>,
    /// When consumers of it ended.
    pub(super) ends: Vec<Stamp>,
    pub(super) drained: Option<Stamp>,
}

#[derive(Debug)]
pub(super) struct Receive<'a> {
    pub(super) inv: Stamp,
    pub(super) ret: Stamp,
    pub(super) max: usize,
    pub(super) came: &'a [Handout],
}

impl Line<'_> {
    /// Whether somebody may hold messages that no handler has in hand.
    pub(super) fn parks(&self) -> bool {
        self.readers.iter().any(|reader| reader.prefetch > 0)
    }

    /// Whether a receive with an unseen end began before that moment.
    pub(super) fn hidden_before(&self, moment: Stamp) -> bool {
        self.hidden.iter().any(|span| span.inv.seq < moment.seq)
    }

    /// Whether waiting messages may have been removed by somebody before that moment.
    pub(super) fn emptied_before(&self, moment: Stamp) -> bool {
        let purges = self.purges.iter().filter(|(_, what)| *what == Purge::Waiting).map(|(span, _)| span);
        purges.chain(&self.deletes).any(|span| span.inv.seq < moment.seq)
    }

    /// The maximum of attempts of a message of its own, or that which all readers agree about.
    pub(super) fn agreed_max(&self, own: Option<NonZeroU32>) -> Option<u32> {
        let agree = || self.readers.windows(2).all(|pair| pair[0].max_attempts == pair[1].max_attempts);
        let theirs = || self.readers.first().filter(|_| agree()).map(|reader| reader.max_attempts);
        Some(own.or_else(theirs)?.get())
    }

    /// The largest maximum of attempts that anybody has.
    pub(super) fn largest_max(&self, own: Option<NonZeroU32>) -> Option<u32> {
        Some(own.or_else(|| self.readers.iter().map(|reader| reader.max_attempts).max())?.get())
    }
}

impl<'a> Life<'a> {
    /// Whether it was sent once: of two messages with one id nobody can tell which is which.
    pub(super) fn single(&self) -> Option<&Publish<'a>> {
        let mut sent = self.publishes.iter().filter(|publish| publish.fate != Fate::Refused);
        sent.next().filter(|_| sent.next().is_none())
    }

    pub(super) fn first(&self) -> Option<&Hold<'a>> {
        self.holds.first()
    }

    /// Whether it may have been redriven before that moment.
    pub(super) fn redriven_before(&self, moment: Stamp) -> bool {
        self.redrives.iter().any(|span| span.inv.seq < moment.seq)
    }
}

impl<'a> View<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut view = View { fault: history.fault, outsiders: history.outsiders, ..Self::default() };
        let mut index = Index::default();
        for event in &history.events {
            view.read(event, &mut index);
        }
        for life in view.lives.values_mut() {
            sort_holds(&mut life.holds);
        }
        view
    }

    /// Whether everything that happened up to that moment is in the history.
    pub(super) fn trusts(&self, moment: Stamp) -> bool {
        self.fault.is_none_or(|fault| moment.seq < fault)
    }

    /// Whether the whole history can be trusted.
    pub(super) fn trusts_all(&self) -> bool {
        self.fault.is_none()
    }

    pub(super) fn line(&self, queue: &QueueName) -> &Line<'a> {
        // Every life was made together with its queue's line.
        &self.queues[queue]
    }

    fn doubt(&mut self, since: Stamp) {
        self.fault = Some(self.fault.unwrap_or(since.seq).min(since.seq));
    }

    fn doubt_unless_sure<T>(&mut self, event: &Event, answer: &Answer<T>) {
        if matches!(answer, None | Some(Err(Certainty::Unknown))) {
            self.doubt(event.inv);
        }
    }

    fn read(&mut self, event: &'a Event, index: &mut Index<'a>) {
        let span = Span { inv: event.inv, ret: event.ret };
        match &event.call {
            Call::Publish { queue, sent, answer } => self.read_publish(event, queue, sent, answer),
            Call::Subscribe { queue, reader, .. } => {
                self.queues.entry(queue).or_default().readers.push(*reader);
                index.readers.insert(reader.consumer, (queue, event.client, *reader));
            }
            Call::Receive { queue, consumer, max, answer, .. } => {
                self.read_receive(event, (queue, *consumer, *max), answer, index);
            }
            Call::Settle { consumer, verdicts, answer, .. } => {
                self.read_settle(event, *consumer, verdicts, answer, index);
            }
            Call::Extend { consumer, receipts, answer, .. } => {
                self.doubt_unless_sure(event, answer);
                for (at, receipt) in receipts.iter().enumerate() {
                    let answer = item(answer, at);
                    if let Some(hold) = self.hold(index, *consumer, receipt) {
                        hold.extensions.push((span, answer));
                    }
                }
            }
            Call::EndConsumer { queue, consumer } => {
                self.queues.entry(queue).or_default().ends.push(event.inv);
                self.end(|hold| hold.consumer == *consumer, event.inv);
            }
            Call::EndClient => self.end_client(event, index),
            Call::Declare { queue, .. } => {
                self.queues.entry(queue).or_default();
            }
            Call::Delete { queue, answer } => {
                if !matches!(answer, Some(Err(Certainty::Definite))) {
                    let ret = event.ret.filter(|_| matches!(answer, Some(Ok(()))));
                    self.queues.entry(queue).or_default().deletes.push(Span { ret, ..span });
                }
            }
            Call::Purge { queue, what, answer } => {
                if !matches!(answer, Some(Err(Certainty::Definite))) {
                    self.queues.entry(queue).or_default().purges.push((span, *what));
                }
            }
            Call::DeadLetters { queue, answer } => self.read_listing(event, queue, answer, index),
            Call::Redrive { queue, ids, answer } => self.read_redrive(event, queue, ids, answer, index),
            Call::Discard { answer, .. } => self.doubt_unless_sure(event, answer),
            Call::Drained { queue } => self.queues.entry(queue).or_default().drained = Some(event.inv),
            Call::Look => {}
        }
    }

    fn read_publish(
        &mut self,
        event: &'a Event,
        queue: &'a QueueName,
        sent: &'a [Sent],
        answer: &Answer<Vec<Result<MessageId, Certainty>>>,
    ) {
        let span = Span { inv: event.inv, ret: event.ret };
        self.queues.entry(queue).or_default();
        for (index, sent) in sent.iter().enumerate() {
            let fate = match item(answer, index) {
                Some(Ok(_)) => Fate::Stored,
                Some(Err(Certainty::Definite)) => Fate::Refused,
                None | Some(Err(Certainty::Unknown)) => Fate::Unknown,
            };
            if fate == Fate::Unknown {
                self.doubt(event.inv);
            }
            let life = self.lives.entry((queue, &sent.id)).or_default();
            life.publishes.push(Publish { span, sent, fate, index });
        }
    }

    fn read_receive(
        &mut self,
        event: &'a Event,
        (queue, consumer, max): (&'a QueueName, u64, usize),
        answer: &'a Answer<Vec<Handout>>,
        index: &mut Index<'a>,
    ) {
        let span = Span { inv: event.inv, ret: event.ret };
        let line = self.queues.entry(queue).or_default();
        let (Some(Ok(came)), Some(ret)) = (answer, event.ret) else {
            line.hidden.push(span);
            if matches!(answer, Some(Err(Certainty::Unknown))) {
                self.doubt(event.inv);
            }
            return;
        };
        line.receives.push(Receive { inv: event.inv, ret, max, came });
        for handout in came {
            let reader = index.readers.get(&consumer).map(|(_, _, reader)| *reader);
            let life = self.lives.entry((queue, &handout.id)).or_default();
            let place = (queue, &handout.id, life.holds.len());
            if index.holds.insert((consumer, &handout.receipt), place).is_some() {
                self.reused.push((queue, &handout.id));
            }
            life.holds.push(Hold {
                consumer,
                reader,
                inv: event.inv,
                ret,
                handout,
                verdicts: Vec::new(),
                extensions: Vec::new(),
                ended: None,
            });
        }
    }

    fn read_settle(
        &mut self,
        event: &'a Event,
        consumer: u64,
        verdicts: &'a [(Receipt, Verdict)],
        answer: &Answer<Vec<Result<Settled, Certainty>>>,
        index: &Index<'a>,
    ) {
        let span = Span { inv: event.inv, ret: event.ret };
        for (at, (receipt, verdict)) in verdicts.iter().enumerate() {
            let answer = item(answer, at);
            self.doubt_unless_sure(event, &answer);
            if let Some(hold) = self.hold(index, consumer, receipt) {
                hold.verdicts.push(Given { span, verdict, answer });
            }
        }
    }

    fn read_listing(
        &mut self,
        event: &'a Event,
        queue: &'a QueueName,
        answer: &'a Answer<Vec<Dead>>,
        index: &mut Index<'a>,
    ) {
        self.queues.entry(queue).or_default();
        let (Some(Ok(letters)), Some(_)) = (answer, event.ret) else { return };
        for dead in letters {
            let Some(id) = &dead.message else { continue };
            index.dead.insert((queue, &dead.letter.id), id);
            self.lives.entry((queue, id)).or_default().deaths.push(Seen { inv: event.inv, dead });
        }
    }

    fn read_redrive(
        &mut self,
        event: &'a Event,
        queue: &'a QueueName,
        ids: &'a [DeadId],
        answer: &Answer<Vec<bool>>,
        index: &Index<'a>,
    ) {
        self.doubt_unless_sure(event, answer);
        let span = Span { inv: event.inv, ret: event.ret };
        for (at, id) in ids.iter().enumerate() {
            let moved = match answer {
                Some(Ok(answers)) => answers.get(at).copied().unwrap_or(true),
                Some(Err(Certainty::Definite)) => false,
                None | Some(Err(Certainty::Unknown)) => true,
            };
            match index.dead.get(&(queue, id)) {
                _ if !moved => {}
                Some(message) => self.lives.entry((queue, *message)).or_default().redrives.push(span),
                None => self.queues.entry(queue).or_default().blind = true,
            }
        }
    }

    fn hold(&mut self, index: &Index<'a>, consumer: u64, receipt: &'a Receipt) -> Option<&mut Hold<'a>> {
        let (queue, id, at) = *index.holds.get(&(consumer, receipt))?;
        self.lives.get_mut(&(queue, id))?.holds.get_mut(at)
    }

    fn end_client(&mut self, event: &Event, index: &Index<'a>) {
        let its: Vec<u64> = index
            .readers
            .iter()
            .filter(|(_, (_, client, _))| *client == event.client)
            .map(|(consumer, _)| *consumer)
            .collect();
        for consumer in &its {
            self.queues.entry(index.readers[consumer].0).or_default().ends.push(event.inv);
        }
        self.end(|hold| its.contains(&hold.consumer), event.inv);
    }

    fn end(&mut self, whose: impl Fn(&Hold<'_>) -> bool, at: Stamp) {
        for hold in self.lives.values_mut().flat_map(|life| &mut life.holds) {
            if hold.ended.is_none() && whose(hold) {
                hold.ended = Some(at);
            }
        }
    }
}

/// Where what later calls refer to is found.
#[derive(Debug, Default)]
struct Index<'a> {
    readers: HashMap<u64, (&'a QueueName, u64, Reader)>,
    holds: HashMap<(u64, &'a Receipt), (&'a QueueName, &'a MessageId, usize)>,
    dead: HashMap<(&'a QueueName, &'a DeadId), &'a MessageId>,
}

/// One item of an answer to many.
fn item<T: Clone>(answer: &Answer<Vec<Result<T, Certainty>>>, at: usize) -> Answer<T> {
    match answer {
        Some(Ok(items)) => items.get(at).cloned(),
        Some(Err(certainty)) => Some(Err(*certainty)),
        None => None,
    }
}

/// Puts hand-outs in the order in which they happened. They are read in the order in which their receives began; a
/// receive that waited long may have brought the later one. Where both orders are possible the attempts decide.
fn sort_holds(holds: &mut [Hold<'_>]) {
    holds.sort_by_key(|hold| hold.ret.seq);
    for _ in 1..holds.len() {
        for second in 1..holds.len() {
            let (a, b) = (&holds[second - 1], &holds[second]);
            if a.handout.attempt > b.handout.attempt && may_be_swapped(a, b) {
                holds.swap(second - 1, second);
            }
        }
    }
}

/// Whether `b` surely was handed out after `a`.
pub(super) fn follows(a: &Hold<'_>, b: &Hold<'_>) -> bool {
    a.ret.seq < b.inv.seq || (a.ret.seq < b.ret.seq && !may_be_swapped(a, b))
}

/// Whether `b`, which came back later, may have been handed out first: only if its answer was on its way for a whole lease.
fn may_be_swapped(a: &Hold<'_>, b: &Hold<'_>) -> bool {
    let lease = b.reader.map_or(Duration::ZERO, |reader| reader.lease);
    let settled_before = a.settled().is_some_and(|given| given.span.before(b.ret));
    !settled_before && b.inv.at + lease <= a.ret.at
}
