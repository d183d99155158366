//! Reads a history, call by call.

use std::collections::HashMap;

use polyqueue::{
    Certainty, DeadId, Destination, MessageId, Published, QueueName, Receipt, Reschedule, Settled, Verdict,
};

use super::View;
use super::holds::sort_holds;
use super::life::{Fate, Given, Hold, Move, Publish, Seen};
use super::line::Receive;
use super::routes::{Reached, Routes};
use super::span::Span;
use crate::history::{Answer, Call, Dead, Event, Handout, History, Reader, Sent, Stamp};

/// The answers to many, asked in one call.
type Answers<T> = Answer<Vec<Result<T, Certainty>>>;

/// A history, sorted by message and by queue.
pub(in crate::check) fn view(history: &History) -> View<'_> {
    let view = View { fault: history.fault, outsiders: history.outsiders, ..View::default() };
    let index = Index { routes: Routes::of(history), ..Index::default() };
    let mut reading = Reading { view, index };
    for event in &history.events {
        reading.read(event);
    }
    for life in reading.view.lives.values_mut() {
        sort_holds(&mut life.holds);
    }
    reading.view
}

/// What has been read so far.
struct Reading<'a> {
    view: View<'a>,
    index: Index<'a>,
}

impl<'a> Reading<'a> {
    fn doubt(&mut self, since: Stamp) {
        self.view.fault = Some(self.view.fault.unwrap_or(since.seq).min(since.seq));
    }

    fn doubt_unless_sure<T>(&mut self, event: &Event, answer: &Answer<T>) {
        if matches!(answer, None | Some(Err(Certainty::Unknown))) {
            self.doubt(event.inv);
        }
    }

    fn read(&mut self, event: &'a Event) {
        let span = Span { inv: event.inv, ret: event.ret };
        match &event.call {
            Call::Publish { to, sent, answer } => self.read_publish(event, to, (sent, answer)),
            Call::Replies { inbox, came } => {
                for id in came {
                    self.view.inboxes.entry((inbox, id)).or_default().came += 1;
                }
            }
            Call::Subscribe { queue, reader, .. } => {
                self.view.queues.entry(queue).or_default().readers.push(*reader);
                self.index.readers.insert(reader.consumer, (queue, event.client, *reader));
            }
            Call::Receive { queue, consumer, max, answer, .. } => {
                self.read_receive(event, (queue, *consumer, *max), answer);
            }
            Call::Settle { consumer, verdicts, answer, .. } => {
                self.read_settle(event, *consumer, verdicts, answer);
            }
            Call::Extend { consumer, receipts, answer, .. } => {
                self.doubt_unless_sure(event, answer);
                for (at, receipt) in receipts.iter().enumerate() {
                    let answer = item(answer, at);
                    if let Some(hold) = self.hold(*consumer, receipt) {
                        hold.extensions.push((span, answer));
                    }
                }
            }
            Call::EndConsumer { queue, consumer } => {
                self.view.queues.entry(queue).or_default().ends.push(event.inv);
                self.end(|hold| hold.consumer == *consumer, event.inv);
            }
            Call::EndClient => self.end_client(event),
            Call::Declare { spec, answer } => {
                let line = self.view.queues.entry(&spec.name).or_default();
                line.specs.extend((!matches!(answer, Some(Err(Certainty::Definite)))).then_some(spec));
            }
            Call::Unbind { queue, .. } => {
                self.view.queues.entry(queue).or_default();
            }
            Call::Reschedule { queue, id, to, answer } => self.read_move(event, (queue, id), *to, answer),
            Call::Delete { queue, answer } => {
                if !matches!(answer, Some(Err(Certainty::Definite))) {
                    let ret = event.ret.filter(|_| matches!(answer, Some(Ok(()))));
                    self.view.queues.entry(queue).or_default().deletes.push(Span { ret, ..span });
                }
            }
            Call::Purge { queue, what, answer } => {
                if !matches!(answer, Some(Err(Certainty::Definite))) {
                    self.view.queues.entry(queue).or_default().purges.push((span, *what));
                }
            }
            Call::DeadLetters { queue, answer } => self.read_listing(event, queue, answer),
            Call::Redrive { queue, ids, answer } => self.read_redrive(event, queue, ids, answer),
            Call::Discard { answer, .. } => self.doubt_unless_sure(event, answer),
            Call::Drained { queue } => self.view.queues.entry(queue).or_default().drained = Some(event.inv),
            Call::Look => {}
        }
    }

    fn read_publish(
        &mut self,
        event: &'a Event,
        to: &'a Destination,
        (sent, answer): (&'a [Sent], &'a Answers<Published>),
    ) {
        let span = Span { inv: event.inv, ret: event.ret };
        match to {
            Destination::Queue(queue) => self.read_copies(span, queue, sent, |at, _| fate(answer, at)),
            Destination::Topic(key) => {
                for (queue, reached) in self.index.routes.reached(key, span) {
                    self.read_copies(span, queue, sent, |at, by_key| {
                        fate_of_copy(fate(answer, at), reached == Reached::Surely && !by_key)
                    });
                }
            }
            Destination::Reply(inbox) => {
                for (at, sent) in sent.iter().enumerate() {
                    let reply = self.view.inboxes.entry((inbox, &sent.id)).or_default();
                    reply.sent += 1;
                    reply.refused += usize::from(fate(answer, at) == Fate::Refused);
                }
            }
        }
    }

    /// What of a publish reached one queue. `fate` is told which message, and whether the queue may know its dedup key.
    fn read_copies(
        &mut self,
        span: Span,
        queue: &'a QueueName,
        sent: &'a [Sent],
        fate: impl Fn(usize, bool) -> Fate<'a>,
    ) {
        let keeps_keys =
            self.view.queues.entry(queue).or_default().specs.iter().any(|spec| spec.dedup.is_some());
        for (nth, sent) in sent.iter().enumerate() {
            let fate = fate(nth, keeps_keys && sent.envelope.dedup_key.is_some());
            if fate == Fate::Unknown {
                self.doubt(span.inv);
            }
            let life = self.view.lives.entry((queue, &sent.id)).or_default();
            life.publishes.push(Publish { span, sent, fate, index: nth });
        }
    }

    fn read_receive(
        &mut self,
        event: &'a Event,
        (queue, consumer, max): (&'a QueueName, u64, usize),
        answer: &'a Answer<Vec<Handout>>,
    ) {
        let span = Span { inv: event.inv, ret: event.ret };
        let line = self.view.queues.entry(queue).or_default();
        let (Some(Ok(came)), Some(ret)) = (answer, event.ret) else {
            line.hidden.push(span);
            if matches!(answer, Some(Err(Certainty::Unknown))) {
                self.doubt(event.inv);
            }
            return;
        };
        line.receives.push(Receive { inv: event.inv, ret, max, came });
        for handout in came {
            let reader = self.index.readers.get(&consumer).map(|(_, _, reader)| *reader);
            let life = self.view.lives.entry((queue, &handout.id)).or_default();
            let place = (queue, &handout.id, life.holds.len());
            if self.index.holds.insert((consumer, &handout.receipt), place).is_some() {
                self.view.reused.push((queue, &handout.id));
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
        answer: &Answers<Settled>,
    ) {
        let span = Span { inv: event.inv, ret: event.ret };
        for (at, (receipt, verdict)) in verdicts.iter().enumerate() {
            let answer = item(answer, at);
            self.doubt_unless_sure(event, &answer);
            if let Some(hold) = self.hold(consumer, receipt) {
                hold.verdicts.push(Given { span, verdict, answer });
            }
        }
    }

    fn read_listing(&mut self, event: &'a Event, queue: &'a QueueName, answer: &'a Answer<Vec<Dead>>) {
        self.view.queues.entry(queue).or_default();
        let (Some(Ok(dead_letters)), Some(ret)) = (answer, event.ret) else { return };
        for dead in dead_letters {
            let Some(id) = &dead.message else { continue };
            self.index.dead.insert((queue, &dead.record.id), id);
            self.view.lives.entry((queue, id)).or_default().deaths.push(Seen { inv: event.inv, ret, dead });
        }
    }

    fn read_redrive(
        &mut self,
        event: &'a Event,
        queue: &'a QueueName,
        ids: &'a [DeadId],
        answer: &Answer<Vec<bool>>,
    ) {
        self.doubt_unless_sure(event, answer);
        let span = Span { inv: event.inv, ret: event.ret };
        for (at, id) in ids.iter().enumerate() {
            let moved = match answer {
                Some(Ok(answers)) => answers.get(at).copied().unwrap_or(true),
                Some(Err(Certainty::Definite)) => false,
                None | Some(Err(Certainty::Unknown)) => true,
            };
            match self.index.dead.get(&(queue, id)) {
                _ if !moved => {}
                Some(message) => self.view.lives.entry((queue, *message)).or_default().redrives.push(span),
                None => self.view.queues.entry(queue).or_default().blind = true,
            }
        }
    }

    fn read_move(
        &mut self,
        event: &'a Event,
        of: (&'a QueueName, &'a MessageId),
        to: Reschedule,
        answer: &Answer<bool>,
    ) {
        self.view.queues.entry(of.0).or_default();
        let sure = match answer {
            Some(Ok(false) | Err(Certainty::Definite)) => return,
            Some(Ok(true)) => true,
            None | Some(Err(Certainty::Unknown)) => false,
        };
        let span = Span { inv: event.inv, ret: event.ret };
        self.view.lives.entry(of).or_default().moves.push(Move { span, to, sure });
    }

    fn hold(&mut self, consumer: u64, receipt: &'a Receipt) -> Option<&mut Hold<'a>> {
        let (queue, id, at) = *self.index.holds.get(&(consumer, receipt))?;
        self.view.lives.get_mut(&(queue, id))?.holds.get_mut(at)
    }

    fn end_client(&mut self, event: &Event) {
        let its: Vec<u64> = self
            .index
            .readers
            .iter()
            .filter(|(_, (_, client, _))| *client == event.client)
            .map(|(consumer, _)| *consumer)
            .collect();
        for consumer in &its {
            self.view.queues.entry(self.index.readers[consumer].0).or_default().ends.push(event.inv);
        }
        self.end(|hold| its.contains(&hold.consumer), event.inv);
    }

    fn end(&mut self, whose: impl Fn(&Hold<'_>) -> bool, at: Stamp) {
        for hold in self.view.lives.values_mut().flat_map(|life| &mut life.holds) {
            if hold.ended.is_none() && whose(hold) {
                hold.ended = Some(at);
            }
        }
    }
}

/// Where what later calls refer to is found.
#[derive(Debug, Default)]
struct Index<'a> {
    routes: Routes<'a>,
    readers: HashMap<u64, (&'a QueueName, u64, Reader)>,
    holds: HashMap<(u64, &'a Receipt), (&'a QueueName, &'a MessageId, usize)>,
    dead: HashMap<(&'a QueueName, &'a DeadId), &'a MessageId>,
}

/// What became of one message in the queue that it was published to.
fn fate(answer: &Answers<Published>, at: usize) -> Fate<'_> {
    match answer {
        Some(Ok(items)) => match items.get(at) {
            Some(Ok(Published { duplicate_of: Some(first), .. })) => Fate::Duplicate(first),
            Some(Ok(_)) => Fate::Stored,
            Some(Err(Certainty::Definite)) => Fate::Refused,
            None | Some(Err(Certainty::Unknown)) => Fate::Unknown,
        },
        Some(Err(Certainty::Definite)) => Fate::Refused,
        None | Some(Err(Certainty::Unknown)) => Fate::Unknown,
    }
}

/// What became of a message's copy in one queue of a topic. A duplicate was one in every queue that was reached, and nobody
/// can tell by whose memory; what was stored may have been one in some.
fn fate_of_copy(fate: Fate<'_>, surely: bool) -> Fate<'_> {
    match fate {
        Fate::Duplicate(_) => Fate::Refused,
        Fate::Stored if !surely => Fate::Perhaps,
        fate => fate,
    }
}

/// One item of an answer to many.
fn item<T: Clone>(answer: &Answers<T>, at: usize) -> Answer<T> {
    match answer {
        Some(Ok(items)) => items.get(at).cloned(),
        Some(Err(certainty)) => Some(Err(*certainty)),
        None => None,
    }
}
