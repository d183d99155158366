//! Settling: one call of a script for all verdicts that are waiting.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::{BatchCall, Deadline};
use polyqueue::backend::{QueueMeter, cut_error};
use polyqueue::{Certainty, DeadReason, Error, Refusal, Result, Settled, Verdict};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::node::Node;
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
    /// The end of the lease, by our clock.
    pub(crate) until: Instant,
    pub(crate) verdict: Verdict,
}

impl LeaseVerdict {
    /// Gives back what nobody was given, attempt unburned.
    pub(crate) fn unhanded(lease: String, until: Instant) -> Self {
        Self { lease, handed: None, until, verdict: Verdict::Release { after: Duration::ZERO } }
    }

    /// Dead-letters what cannot be read.
    pub(crate) fn unreadable(lease: String, until: Instant, error: String) -> Self {
        let verdict = Verdict::DeadLetter { reason: Refusal::Undecodable, error };
        Self { lease, handed: None, until, verdict }
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
            Ok(Some(mut codes)) if codes.len() == items.len() + usize::from(!acks) => {
                if !acks {
                    self.meter.dropped(codes.pop().map_or(0, |dropped| dropped.count()));
                }
                items.iter().zip(codes).map(|(item, code)| self.answer(item, code)).collect()
            }
            Ok(_) => vec![Err(strange("an answer to a verdict that is none")); items.len()],
            Err(error) => vec![Err(error); items.len()],
        }
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

    fn answer(&self, item: &LeaseVerdict, code: Reply) -> Result<Settled> {
        let now = Instant::now();
        let settled = match code.number() {
            Some(1) => Settled::Applied,
            Some(2) => Settled::Died,
            Some(3) if now < item.until => Settled::AlreadySettled,
            Some(3 | 4) => Settled::LeaseLost,
            _ => return Err(strange(code.into_text().unwrap_or_default())),
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
        Verdict::Release { after } => request.arg("l").arg(lease).number(millis(*after)).arg(uid()),
        Verdict::DeadLetter { reason, error } => request
            .arg("d")
            .arg(lease)
            .arg(DeadReason::from(*reason).as_str())
            .arg(cut_error(error.clone()))
            .number(u64::from(item.handed.is_some())),
    };
}
