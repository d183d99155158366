//! Settling: one call of a script for all verdicts that are waiting.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::{BatchCall, Deadline};
use polyqueue::backend::{QueueMeter, cut_error};
use polyqueue::{Certainty, DeadReason, Error, Refusal, Result, Settled, Verdict};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::fault;
use crate::connection::node::Node;
use crate::connection::refused;
use crate::scripts;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;
use crate::wire::time::{millis, uid};

/// Settles what was received from one queue.
pub(crate) struct SettleCall {
    pub(crate) node: Arc<Node>,
    pub(crate) keys: QueueKeys,
    pub(crate) meter: Arc<QueueMeter>,
}

/// A verdict on a lease.
pub(crate) struct LeaseVerdict {
    pub(crate) lease: String,
    /// When the message was handed out; `None` when it never was.
    pub(crate) handed: Option<Instant>,
    /// The end of the lease, by the server's clock, in ms.
    pub(crate) ends: u64,
    pub(crate) verdict: Verdict,
}

impl LeaseVerdict {
    /// Gives back what nobody was given, attempt unburned.
    pub(crate) fn unhanded(lease: String) -> Self {
        Self { lease, handed: None, ends: 0, verdict: Verdict::Release { after: Duration::ZERO } }
    }

    /// Dead-letters what cannot be read.
    pub(crate) fn unreadable(lease: String, error: String) -> Self {
        let verdict = Verdict::DeadLetter { reason: Refusal::Undecodable, error };
        Self { lease, handed: None, ends: 0, verdict }
    }
}

impl BatchCall for SettleCall {
    type Item = LeaseVerdict;
    type Answer = Settled;
    const NAME: &'static str = "settle";

    fn bytes(item: &LeaseVerdict) -> usize {
        item.lease.len()
    }

    async fn call(&self, items: Vec<LeaseVerdict>, limit: Deadline) -> Vec<Result<Settled>> {
        let acks = items.iter().all(|item| item.verdict == Verdict::Ack);
        let request = if acks { self.acks(&items) } else { self.verdicts(&items) };
        match self.node.call(request, limit).await.map(|answer| answer.reply.into_list()) {
            Ok(Some(mut codes)) if codes.len() == items.len() + 1 + usize::from(!acks) => {
                let time = codes.pop().map_or(0, |time| time.count());
                if !acks {
                    self.meter.dropped(codes.pop().map_or(0, |dropped| dropped.count()));
                }
                let answers = items.iter().zip(codes).map(|(item, code)| self.answer(item, code, time));
                let mut answers: Vec<_> = answers.collect();
                refused::note(&self.node, &self.keys, &mut answers, limit).await;
                answers
            }
            Ok(_) => vec![Err(strange("an answer to a verdict that is none")); items.len()],
            Err(error) => vec![Err(error); items.len()],
        }
    }

    fn obstacle(&self) -> Option<Error> {
        self.node.obstacle()
    }

    async fn unobstructed(&self) {
        self.node.unobstructed().await;
    }
}

impl SettleCall {
    fn acks(&self, items: &[LeaseVerdict]) -> Request {
        let mut request = Request::script(&scripts::ACK, &self.keys);
        for item in items {
            request.arg(&item.lease);
        }
        request
    }

    fn verdicts(&self, items: &[LeaseVerdict]) -> Request {
        let mut request = Request::script(&scripts::SETTLE, &self.keys);
        for item in items {
            write(item, &mut request);
        }
        request
    }

    /// `time` is the server's, when it answered: by no other clock can it be told whether the lease, which is gone, was over.
    fn answer(&self, item: &LeaseVerdict, code: Reply, time: u64) -> Result<Settled> {
        let now = Instant::now();
        let settled = match code.number() {
            Some(1) => Settled::Applied,
            Some(2) => Settled::Died,
            Some(3) if time < item.ends => Settled::AlreadySettled,
            Some(3 | 4) => Settled::LeaseLost,
            _ => return Err(fault::of_item(code.into_text().unwrap_or_default(), Certainty::Unknown)),
        };
        if let Some(handed) = item.handed {
            self.meter.settled(&item.verdict, settled, now.saturating_duration_since(handed));
        }
        Ok(settled)
    }
}

fn strange(what: impl Into<String>) -> Error {
    Error::backend(NAME, Certainty::Unknown, what.into())
}

/// A verdict as arguments of the script.
pub(crate) fn write(item: &LeaseVerdict, request: &mut Request) {
    let lease = &item.lease;
    match &item.verdict {
        Verdict::Ack => request.arg("a").arg(lease),
        Verdict::Retry { after, error } => {
            request.arg("r").arg(lease).number(millis(*after)).arg(uid()).arg(cut_error(error.clone()))
        }
        // Nobody had it: it is ready where it stands.
        Verdict::Release { .. } if item.handed.is_none() => request.arg("b").arg(lease),
        Verdict::Release { after } => request.arg("l").arg(lease).number(millis(*after)).arg(uid()),
        Verdict::DeadLetter { reason, error } => request
            .arg("d")
            .arg(lease)
            .arg(DeadReason::from(*reason).as_str())
            .arg(cut_error(error.clone()))
            .number(u64::from(item.handed.is_some())),
    };
}
