//! What becomes of what was handed out: verdicts and extensions, refused here where the lease is not ours any more.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::{Deadline, LeaseTable, ReceiptTimes};
use polyqueue::{Certainty, Error, Extended, Receipt, Result, Settled, Subscription, Verdict};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::handle::Handle;
use crate::scripts;
use crate::settle::batch::LeaseVerdict;
use crate::settle::receipt;
use crate::settle::settlers::QueueSettler;
use crate::wire::reply::Reply;
use crate::wire::request::Request;
use crate::wire::time::millis;

/// What one consumer holds, and how it settles it.
pub(crate) struct Verdicts {
    handle: Arc<Handle>,
    settler: Arc<QueueSettler>,
    pub(crate) leases: LeaseTable<Receipt, ()>,
    /// Names the consumer in its leases.
    pub(crate) holder: String,
    epoch: Instant,
    lease: Duration,
}

impl Verdicts {
    pub(crate) fn new(
        handle: Arc<Handle>,
        settler: Arc<QueueSettler>,
        holder: String,
        subscription: &Subscription,
    ) -> Self {
        let leases = LeaseTable::new(subscription.prefetch);
        Self { handle, settler, leases, holder, epoch: Instant::now(), lease: subscription.lease }
    }

    /// The receipt of what is handed out now.
    pub(crate) fn receipt(&self, lease: &str, until: Instant, ends: u64) -> Receipt {
        receipt::write(lease, self.epoch, ReceiptTimes { handed: Instant::now(), until }, ends)
    }

    /// Sends verdicts on what no handler was given.
    pub(crate) async fn send(&self, verdicts: Vec<LeaseVerdict>) {
        self.settler.batcher.send(verdicts).await;
    }

    /// Releases what nobody was given, attempts unburned.
    pub(crate) async fn give_back(&self, receipts: impl Iterator<Item = &Receipt> + Send) {
        let release = |receipt: &Receipt| {
            self.leases.finish(receipt);
            let held = receipt::read(receipt, self.epoch).ok()?;
            Some(LeaseVerdict::unhanded(held.lease.to_owned()))
        };
        let released = receipts.filter_map(release).collect();
        self.send(released).await;
    }

    pub(crate) async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Vec<Result<Settled>> {
        let mut answers: Vec<Option<Result<Settled>>> = Vec::with_capacity(verdicts.len());
        let mut verdict_given = Vec::with_capacity(verdicts.len());
        for (index, (receipt, verdict)) in verdicts.iter().enumerate() {
            match self.judge(receipt, verdict) {
                Ok(Some(item)) => {
                    verdict_given.push(item);
                    answers.push(None);
                }
                Ok(None) => answers.push(Some(Ok(Settled::LeaseLost))),
                Err(error) => answers.push(Some(Err(error.at(index)))),
            }
        }
        let mut sent = self.settler.batcher.send(verdict_given).await.into_iter();
        let nothing = || Err(Error::backend(NAME, Certainty::Unknown, "a verdict without an answer"));
        let answers =
            answers.into_iter().map(|answer| answer.or_else(|| sent.next()).unwrap_or_else(nothing));
        let answers: Vec<_> = answers.collect();
        let settled = verdicts.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        settled.for_each(|((receipt, _), _)| self.leases.finish(receipt));
        answers
    }

    /// A verdict that may be sent; `None` when the lease is not, or no longer, ours.
    fn judge(&self, receipt: &Receipt, verdict: &Verdict) -> Result<Option<LeaseVerdict>> {
        let held = receipt::read(receipt, self.epoch)?;
        self.handle.info.limits.check_verdict(verdict)?;
        let until = self.leases.until(receipt).unwrap_or(held.times.until);
        if held.holder != self.holder || Instant::now() >= until {
            return Ok(None);
        }
        let lease = held.lease.to_owned();
        let ends = held.ends + millis(until.saturating_duration_since(held.times.until));
        Ok(Some(LeaseVerdict { lease, handed: Some(held.times.handed), ends, verdict: verdict.clone() }))
    }

    /// Extends up to 100 leases.
    pub(crate) async fn extend(&self, receipts: &[Receipt]) -> Vec<Result<Extended>> {
        let mut request = Request::script(&scripts::EXTEND, &self.settler.keys);
        request.number(millis(self.lease));
        let mut asked = Vec::new();
        let mut answers: Vec<Result<Extended>> = Vec::with_capacity(receipts.len());
        for (index, receipt) in receipts.iter().enumerate() {
            answers.push(Ok(Extended::LeaseLost));
            match receipt::read(receipt, self.epoch) {
                Err(error) => answers[index] = Err(error.at(index)),
                Ok(held) if held.holder == self.holder => {
                    let until = self.leases.until(receipt).unwrap_or(held.times.until);
                    if Instant::now() < until {
                        request.arg(held.lease);
                        asked.push(index);
                    }
                }
                Ok(_) => {}
            }
        }
        if asked.is_empty() {
            return answers;
        }
        let limit = Deadline::new("extend", self.handle.deadline);
        let answer = self.handle.node.call(request, limit).await;
        let answer = answer.map(|answer| (answer.reply.into_list().unwrap_or_default(), answer.sent));
        for (nth, index) in asked.into_iter().enumerate() {
            answers[index] = match &answer {
                Ok((codes, sent)) => self.extended(&receipts[index], codes.get(nth), *sent),
                Err(error) => Err(error.clone()),
            };
        }
        answers
    }

    fn extended(&self, receipt: &Receipt, code: Option<&Reply>, sent: Instant) -> Result<Extended> {
        match code.and_then(Reply::number) {
            Some(1) => {
                let until = sent + self.lease;
                self.leases.set_end(receipt, until);
                Ok(Extended::Until(until))
            }
            Some(_) => Ok(Extended::LeaseLost),
            None => {
                let strange = "an answer to an extension that is none";
                Err(Error::backend(NAME, Certainty::Unknown, strange))
            }
        }
    }
}
