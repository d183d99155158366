//! What becomes of what was handed out: verdicts and extensions, refused here where the lease is not ours any more.

use std::sync::atomic::Ordering;

use polyqueue::backend::Deadline;
use polyqueue::{Certainty, Error, Extended, Receipt, Result, Settled, Verdict};
use tokio::time::Instant;

use super::Core;
use crate::link::{Reply, Request};
use crate::settler::Judged;
use crate::time::millis;
use crate::{NAME, receipt, scripts};

impl Core {
    pub(super) async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Vec<Result<Settled>> {
        let mut answers: Vec<Option<Result<Settled>>> = Vec::with_capacity(verdicts.len());
        let mut judged = Vec::with_capacity(verdicts.len());
        for (index, (receipt, verdict)) in verdicts.iter().enumerate() {
            match self.judge(receipt, verdict) {
                Ok(Some(item)) => {
                    judged.push(item);
                    answers.push(None);
                }
                Ok(None) => answers.push(Some(Ok(Settled::LeaseLost))),
                Err(error) => answers.push(Some(Err(error.at(index)))),
            }
        }
        if !self.judged.swap(true, Ordering::AcqRel) {
            self.bell.nudge();
        }
        let mut sent = self.route.settle.send(judged).await.into_iter();
        let nothing = || Err(Error::backend(NAME, Certainty::Unknown, "a verdict without an answer"));
        let answers =
            answers.into_iter().map(|answer| answer.or_else(|| sent.next()).unwrap_or_else(nothing));
        let answers: Vec<_> = answers.collect();
        let settled = verdicts.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        settled.for_each(|((receipt, _), _)| self.leases.finish(receipt));
        answers
    }

    /// A verdict that may be sent; `None` when the lease is not, or no longer, ours.
    fn judge(&self, receipt: &Receipt, verdict: &Verdict) -> Result<Option<Judged>> {
        let held = receipt::read(receipt, self.epoch)?;
        self.hub.info.limits.check_verdict(verdict)?;
        let until = self.leases.until(receipt).unwrap_or(held.times.until);
        if held.holder != self.holder || Instant::now() >= until {
            return Ok(None);
        }
        let lease = held.lease.to_owned();
        Ok(Some(Judged { lease, handed: Some(held.times.handed), until, verdict: verdict.clone() }))
    }

    /// Extends up to 100 leases.
    pub(super) async fn extend(&self, receipts: &[Receipt]) -> Vec<Result<Extended>> {
        let mut request = Request::script(&scripts::EXTEND, &self.route.keys);
        request.number(millis(self.subscription.lease));
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
        let limit = Deadline::new("extend", self.hub.deadline);
        let answer = self.hub.link.call(request, limit).await;
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
                let until = sent + self.subscription.lease;
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
