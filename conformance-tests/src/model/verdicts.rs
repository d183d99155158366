//! What verdicts and extensions must answer, and what they do.

use std::time::Duration;

use polyqueue::{DeadReason, Extended, Settled, Until, Verdict};

use super::receive::name;
use super::state::{Hold, Judgement, Model, Place, Span, Window};

/// Whose message a receipt names at the time of a call.
enum Standing {
    /// Its holder's.
    Held(Hold),
    /// Either its holder's or nobody's: the lease ends about now.
    Ending(Hold),
    /// Not its holder's any more.
    Lost,
    /// A verdict was given, whose memory may have ended with the lease.
    Settled { remembered: bool },
}

impl Model {
    fn standing(&self, delivery: usize, consumer: usize, call: Span) -> Standing {
        let it = &self.deliveries[delivery];
        if it.consumer != consumer {
            return Standing::Lost;
        }
        if it.settled {
            return Standing::Settled { remembered: call.ret < it.known_end };
        }
        match self.messages[it.message].place {
            Place::Held(hold) if hold.delivery != delivery => Standing::Lost,
            Place::Held(hold) if call.ret < hold.from => Standing::Held(hold),
            Place::Held(hold) if call.inv < hold.over => Standing::Ending(hold),
            _ => Standing::Lost,
        }
    }

    /// Judges the answer to a verdict, and applies it.
    pub(super) fn settle(
        &mut self,
        call: Span,
        consumer: usize,
        delivery: usize,
        verdict: &Verdict,
        answer: Settled,
    ) -> Judgement {
        let message = self.deliveries[delivery].message;
        let effect = self.effect(call, message, verdict);
        let elsewhere = self.deliveries[delivery].consumer != consumer;
        let (allowed, ended): (&[Settled], Option<Hold>) = match self.standing(delivery, consumer, call) {
            Standing::Held(_) => (&[effect], None),
            Standing::Ending(hold) => (&[effect, Settled::LeaseLost], Some(hold)),
            Standing::Settled { remembered: true } => (&[Settled::AlreadySettled], None),
            Standing::Settled { remembered: false } => (&[Settled::AlreadySettled, Settled::LeaseLost], None),
            Standing::Lost => (&[Settled::LeaseLost], None),
        };
        if !allowed.contains(&answer) {
            let said = if elsewhere { "at the other consumer " } else { "" };
            return Err(format!(
                "{verdict:?} for {} {said}answered {answer:?}, not {allowed:?}",
                name(message)
            ));
        }
        self.coverage.note_if(elsewhere, "receipt used elsewhere");
        match answer {
            Settled::Applied | Settled::Died => self.apply(call, delivery, verdict, effect),
            Settled::AlreadySettled => self.coverage.note("second verdict given"),
            Settled::LeaseLost => {
                self.coverage.note_if(!elsewhere, "stale receipt used");
                if let Some(hold) = ended {
                    // A client may know the end of its lease, and say so, before the broker has noticed it.
                    let by = hold.by.min(call.ret + self.rules.late);
                    let ended = Hold { over: call.ret, by, ..hold };
                    self.messages[message].place = Place::Held(ended);
                }
            }
        }
        Ok(())
    }

    /// What the verdict answers when its holder still has the message.
    fn effect(&self, call: Span, message: usize, verdict: &Verdict) -> Settled {
        let expired = self.expired(message, call);
        let message = &self.messages[message];
        match verdict {
            Verdict::DeadLetter { .. } => Settled::Died,
            Verdict::Retry { .. } if expired || message.attempts >= message.max => Settled::Died,
            _ => Settled::Applied,
        }
    }

    /// Whether its time to live is over. Programs in real time have none.
    fn expired(&self, message: usize, call: Span) -> bool {
        self.messages[message].expires.is_some_and(|end| end.by <= call.inv)
    }

    fn apply(&mut self, call: Span, delivery: usize, verdict: &Verdict, effect: Settled) {
        self.deliveries[delivery].settled = true;
        let message = self.deliveries[delivery].message;
        let died = Window { from: call.inv, by: call.ret };
        match verdict {
            Verdict::Ack => {
                self.done.acked += 1;
                self.messages[message].place = Place::Gone;
                if self.rules.dedup.until == Until::Ack {
                    let freed = self.free(message);
                    self.coverage.note_if(freed, "key freed by an ack");
                }
            }
            Verdict::Release { after } => {
                self.done.released += 1;
                self.messages[message].attempts -= 1;
                if self.expired(message, call) {
                    self.coverage.note("released past its end");
                    return self.bury(message, &[DeadReason::Expired], None, died);
                }
                self.goes_back(message, call, *after);
            }
            Verdict::Retry { error, .. } if effect == Settled::Died => {
                self.done.died += 1;
                if self.expired(message, call) {
                    self.coverage.note("retried past its end");
                    let last = self.messages[message].attempts >= self.messages[message].max;
                    let reasons = [DeadReason::Expired, DeadReason::MaxAttempts];
                    return self.bury(message, &reasons[..1 + usize::from(last)], None, died);
                }
                let own = self.messages[message].sent.max_attempts().is_some();
                self.coverage.note(if own { "message's own maximum reached" } else { "last attempt failed" });
                self.bury(message, &[DeadReason::MaxAttempts], Some(error.clone()), died);
            }
            Verdict::Retry { after, error } => {
                self.done.retried += 1;
                self.messages[message].retries += 1;
                self.messages[message].last_error = Some(error.clone());
                self.goes_back(message, call, *after);
            }
            Verdict::DeadLetter { reason, error } => {
                self.done.died += 1;
                self.coverage.note("rejected");
                self.bury(message, &[(*reason).into()], Some(error.clone()), died);
            }
        }
    }

    /// Judges the answer to an extension, and applies it.
    pub(super) fn extend(
        &mut self,
        call: Span,
        consumer: usize,
        delivery: usize,
        answer: Extended,
    ) -> Judgement {
        let message = self.deliveries[delivery].message;
        let standing = self.standing(delivery, consumer, call);
        match (answer, standing) {
            (Extended::Until(until), Standing::Held(hold) | Standing::Ending(hold)) => {
                let (from, over) = (call.inv + self.rules.lease, call.ret + self.rules.lease);
                let grain = self.rules.grain;
                if until + grain < from || until > over + grain {
                    let left = until.saturating_duration_since(call.ret);
                    return Err(format!("{} was extended until {left:?} from now", name(message)));
                }
                self.coverage.note("lease extended");
                let by = over + self.rules.late;
                let longer = Hold { from: until - grain, over: over + grain, by, extended: true, ..hold };
                self.deliveries[delivery].known_end = longer.from;
                self.messages[message].place = Place::Held(longer);
                Ok(())
            }
            (Extended::LeaseLost, Standing::Ending(hold)) => {
                let ended = Hold { over: call.ret, by: call.ret, ..hold };
                self.messages[message].place = Place::Held(ended);
                Ok(())
            }
            (Extended::LeaseLost, Standing::Lost | Standing::Settled { .. }) => {
                let stale = self.deliveries[delivery].consumer == consumer;
                self.coverage.note_if(stale, "stale lease not extended");
                Ok(())
            }
            (Extended::LeaseLost, Standing::Held(hold)) => {
                let left: Duration = hold.from - call.ret;
                Err(format!("the lease of {} was lost {left:?} before its end", name(message)))
            }
            (Extended::Until(_), _) => {
                Err(format!("{} was extended by a receipt that is stale", name(message)))
            }
        }
    }

    /// The wait that the policy has for a failure at this attempt: 1T, then 2T for ever, although thrice as much were due.
    pub(super) fn policy_wait(&mut self, attempt: u32, tick: Duration) -> Duration {
        self.coverage.note_if(attempt > 1, "wait at the cap of the policy");
        if attempt == 1 { tick } else { tick * 2 }
    }
}
