//! Writes histories by hand: times are in milliseconds, equal ones in the order of writing.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::DateTime;
use polyqueue::{
    Certainty, DeadBody, DeadId, DeadLetter, DeadReason, Destination, Extended, Message, MessageId,
    Published, QueueName, QueueSpec, Receipt, Reschedule, Settled, Verdict,
};
use tokio::time::Instant;

use crate::history::{Call, Dead, Envelope, Event, Handout, History, Reader, Sent, Stamp};

/// Every subscription's lease, in milliseconds.
pub(super) const LEASE: u64 = 100;

pub(super) fn queue() -> QueueName {
    QueueName::from_static("q")
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

pub(super) fn id(id: &str) -> MessageId {
    MessageId::new(id).unwrap()
}

#[derive(Clone, Default)]
pub(super) struct Script {
    calls: Vec<(u64, Option<u64>, Call)>,
    envelopes: BTreeMap<String, Arc<Envelope>>,
    receipts: BTreeMap<String, Receipt>,
    made: u64,
    fault: Option<u64>,
    pub(super) outsiders: bool,
}

impl Script {
    pub(super) fn at(&self, ms: u64) -> Instant {
        start() + Duration::from_millis(ms)
    }

    pub(super) fn call(&mut self, when: Range<u64>, call: Call) {
        self.calls.push((when.start, Some(when.end), call));
    }

    /// From the `nth` moment on the history cannot be trusted.
    pub(super) fn fault(&mut self, nth: u64) {
        self.fault = Some(nth);
    }

    pub(super) fn subscribe(&mut self, consumer: u64, max: u32) {
        self.subscribe_as(consumer, max, 0);
    }

    pub(super) fn subscribe_parking(&mut self, consumer: u64, prefetch: usize) {
        self.subscribe_as(consumer, 3, prefetch);
    }

    fn subscribe_as(&mut self, consumer: u64, max: u32, prefetch: usize) {
        let max_attempts = NonZeroU32::new(max).unwrap();
        let reader = Reader { consumer, lease: Duration::from_millis(LEASE), max_attempts, prefetch };
        self.call(0..0, Call::Subscribe { queue: queue(), reader, answer: Some(Ok(())) });
    }

    /// Publishes any message to anywhere.
    pub(super) fn send(
        &mut self,
        to: impl Into<Destination>,
        message: Message,
        when: Range<u64>,
        answer: Result<Published, Certainty>,
    ) {
        let sent = Sent::from(&message);
        self.envelopes.insert(message.id().as_str().into(), sent.envelope.clone());
        let call = Call::Publish { to: to.into(), sent: vec![sent], answer: Some(Ok(vec![answer])) };
        self.call(when, call);
    }

    /// The same, answered as stored.
    pub(super) fn store(&mut self, to: impl Into<Destination>, message: Message, when: Range<u64>) {
        let stored = Published::stored(message.id().clone());
        self.send(to, message, when, Ok(stored));
    }

    pub(super) fn declare(&mut self, spec: QueueSpec, when: Range<u64>) {
        self.call(when, Call::Declare { spec, answer: Some(Ok(())) });
    }

    pub(super) fn reschedule(&mut self, name: &str, to: Reschedule, when: Range<u64>, answer: bool) {
        let call = Call::Reschedule { queue: queue(), id: id(name), to, answer: Some(Ok(answer)) };
        self.call(when, call);
    }

    fn sent(&mut self, name: &str, priority: i64, delay: u64) -> Sent {
        let message = Message::new(name.to_owned())
            .with_id(id(name))
            .with_priority(polyqueue::Priority::new(priority).unwrap())
            .with_delay(Duration::from_millis(delay));
        let sent = Sent::from(&message);
        self.envelopes.insert(name.into(), sent.envelope.clone());
        sent
    }

    /// The message that was just published has a maximum of its own.
    pub(super) fn own_max(&mut self, name: &str, max: NonZeroU32) {
        let mut changed = (*self.envelopes[name]).clone();
        changed.max_attempts = Some(max);
        let changed = Arc::new(changed);
        self.envelopes.insert(name.into(), changed.clone());
        for (_, _, call) in &mut self.calls {
            if let Call::Publish { sent, .. } = call {
                sent.iter_mut().filter(|it| it.id == id(name)).for_each(|it| it.envelope = changed.clone());
            }
        }
    }

    pub(super) fn publish(&mut self, name: &str, priority: i64, delay: u64, when: Range<u64>) {
        self.publish_answered(name, priority, delay, when, Ok(id(name)));
    }

    pub(super) fn publish_answered(
        &mut self,
        name: &str,
        priority: i64,
        delay: u64,
        when: Range<u64>,
        answer: Result<MessageId, Certainty>,
    ) {
        let sent = vec![self.sent(name, priority, delay)];
        self.call(
            when,
            Call::Publish { to: queue().into(), sent, answer: Some(Ok(vec![answer.map(Published::stored)])) },
        );
    }

    pub(super) fn publish_batch(&mut self, names: &[&str], when: Range<u64>) {
        let sent = names.iter().map(|name| self.sent(name, 5, 0)).collect();
        let answer = Some(Ok(names.iter().map(|name| Ok(Published::stored(id(name)))).collect()));
        self.call(when, Call::Publish { to: queue().into(), sent, answer });
    }

    fn handout(&mut self, name: &str, attempt: u32, lease_from: u64) -> Handout {
        self.made += 1;
        let receipt = Receipt::new(format!("{name}/{}", self.made));
        self.receipts.insert(name.into(), receipt.clone());
        let plain = || Arc::new(Envelope::of(&Message::new("")));
        Handout {
            id: id(name),
            envelope: self.envelopes.get(name).cloned().unwrap_or_else(plain),
            attempt,
            retries: 0,
            last_error: None,
            receipt,
            lease_until: self.at(lease_from + LEASE),
        }
    }

    fn received(&mut self, consumer: u64, when: Range<u64>, came: Vec<Handout>) {
        let wait = Duration::from_millis(when.end - when.start);
        self.call(when, Call::Receive { queue: queue(), consumer, max: 10, wait, answer: Some(Ok(came)) });
    }

    pub(super) fn receive(&mut self, consumer: u64, when: Range<u64>, came: &[(&str, u32)]) -> Vec<Receipt> {
        let came: Vec<Handout> =
            came.iter().map(|(name, attempt)| self.handout(name, *attempt, when.start)).collect();
        let receipts = came.iter().map(|handout| handout.receipt.clone()).collect();
        self.received(consumer, when, came);
        receipts
    }

    pub(super) fn receive_with(
        &mut self,
        consumer: u64,
        when: Range<u64>,
        came: &[(&str, u32)],
        receipts: &[Receipt],
    ) {
        let mut all: Vec<Handout> =
            came.iter().map(|(name, attempt)| self.handout(name, *attempt, when.start)).collect();
        all.iter_mut().zip(receipts).for_each(|(handout, receipt)| handout.receipt = receipt.clone());
        self.received(consumer, when, all);
    }

    pub(super) fn receive_again(
        &mut self,
        consumer: u64,
        when: Range<u64>,
        name: &str,
        attempt: u32,
        retries: u32,
        error: &str,
    ) -> Receipt {
        let mut handout = self.handout(name, attempt, when.start);
        handout.retries = retries;
        handout.last_error = (retries > 0).then(|| error.into());
        let receipt = handout.receipt.clone();
        self.received(consumer, when, vec![handout]);
        receipt
    }

    pub(super) fn receive_changed(
        &mut self,
        consumer: u64,
        when: Range<u64>,
        name: &str,
        change: impl FnOnce(&mut Handout),
    ) {
        let mut handout = self.handout(name, 1, when.start);
        change(&mut handout);
        self.received(consumer, when, vec![handout]);
    }

    pub(super) fn dropped_receive(&mut self, consumer: u64, inv: u64) {
        let call = Call::Receive { queue: queue(), consumer, max: 1, wait: Duration::ZERO, answer: None };
        self.calls.push((inv, None, call));
    }

    /// The receipt of the last hand-out of a message.
    pub(super) fn receipt_of(&self, name: &str) -> Receipt {
        self.receipts[name].clone()
    }

    pub(super) fn settle(
        &mut self,
        consumer: u64,
        receipt: &Receipt,
        verdict: Verdict,
        when: Range<u64>,
        answer: Settled,
    ) {
        let verdicts = vec![(receipt.clone(), verdict)];
        self.call(
            when,
            Call::Settle { queue: queue(), consumer, verdicts, answer: Some(Ok(vec![Ok(answer)])) },
        );
    }

    pub(super) fn extend(&mut self, consumer: u64, receipt: &Receipt, when: Range<u64>, answer: Extended) {
        let receipts = vec![receipt.clone()];
        self.call(
            when,
            Call::Extend { queue: queue(), consumer, receipts, answer: Some(Ok(vec![Ok(answer)])) },
        );
    }

    pub(super) fn end_consumer(&mut self, consumer: u64, at: u64) {
        self.call(at..at, Call::EndConsumer { queue: queue(), consumer });
    }

    pub(super) fn dead(&mut self, when: Range<u64>, dead_letters: &[DeadLetter]) {
        let mut listed: Vec<Dead> = dead_letters.iter().map(Dead::from).collect();
        for dead in &mut listed {
            let name = dead.message.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
            dead.envelope = self.envelopes.get(&name).cloned();
        }
        self.call(when, Call::DeadLetters { queue: queue(), answer: Some(Ok(listed)) });
    }

    pub(super) fn redrive(&mut self, name: &str, when: Range<u64>) {
        let call =
            Call::Redrive { queue: queue(), ids: vec![DeadId::new(name)], answer: Some(Ok(vec![true])) };
        self.call(when, call);
    }

    pub(super) fn drained(&mut self, at: u64) {
        self.call(at..at, Call::Drained { queue: queue() });
    }

    pub(super) fn history(&self) -> History {
        let mut moments: Vec<(u64, usize, bool)> = Vec::new();
        for (nth, (inv, ret, _)) in self.calls.iter().enumerate() {
            moments.push((*inv, 2 * nth, false));
            moments.extend(ret.map(|ret| (ret, 2 * nth + 1, true)));
        }
        moments.sort_unstable();
        let stamp = |place: usize| {
            let seq = moments.iter().position(|(_, at, _)| *at == place)?;
            Some(Stamp { at: self.at(moments[seq].0), seq: seq as u64 })
        };
        let mut events: Vec<Event> = self
            .calls
            .iter()
            .enumerate()
            .filter_map(|(nth, (_, _, call))| {
                Some(Event { client: 0, inv: stamp(2 * nth)?, ret: stamp(2 * nth + 1), call: call.clone() })
            })
            .collect();
        events.sort_by_key(|event| event.inv.seq);
        History { events, fault: self.fault, outsiders: self.outsiders }
    }
}

/// A message whose id and payload are its name.
pub(super) fn message(name: &str) -> Message {
    Message::new(name.to_owned()).with_id(id(name))
}

pub(super) fn dead_letter(name: &str, reason: DeadReason, attempts: u32) -> DeadLetter {
    dead_letter_of(name, reason, attempts, "")
}

pub(super) fn dead_letter_of(name: &str, reason: DeadReason, attempts: u32, error: &str) -> DeadLetter {
    let body = DeadBody::Message(Box::new(message(name)));
    let mut dead_letter = DeadLetter::new(DeadId::new(name), queue(), body, reason, DateTime::UNIX_EPOCH);
    dead_letter.error = error.into();
    (dead_letter.attempts, dead_letter.total_attempts) = (attempts, attempts);
    dead_letter
}
