//! Drives a program against a queue and the model at once, comparing after every call.

use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use polyqueue::{
    Backoff, Consumer, DeadFilter, DeadId, Delivery, Message, Page, Priority, Published, Purge, Queue,
    QueueName, QueueSpec, Receipt, Refusal, Reschedule, Subscription, Verdict,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::answers::{all, good, invalid, one};
use super::coverage::Coverage;
use super::message::Span;
use super::program::{Draft, Milli, Op, Pick, Word};
use super::receive::Asked;
use super::settle::policy_wait;
use super::state::{CONSUMERS, Judgement, Model, Rules};
use super::{dead, extend, publish, purge, receive, reschedule, settle, stats};
use crate::fail::asserted;
use crate::run::panic_text;

/// How long before something happens by itself a call must begin to be surely over before it.
const CALL: Duration = Duration::from_millis(50);

/// Where a program went wrong.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The call, counted from 1.
    pub(super) call: usize,
    pub(super) why: String,
}

/// Runs a program on a queue of its own, which is gone afterwards, and says what it has tried.
///
/// # Errors
/// The first answer that the model does not allow.
pub(super) async fn drive(
    queue: &Arc<dyn Queue>,
    name: QueueName,
    rules: Rules,
    tick: Duration,
    program: &[Op],
) -> Result<Coverage, Failure> {
    let outside = |why| Failure { call: 0, why };
    let spec = QueueSpec::new(name.clone()).dedup(rules.dedup);
    good("declare", queue.declare(&spec).await).map_err(outside)?;
    let mut driver = Driver {
        queue: queue.clone(),
        name: name.clone(),
        consumers: Vec::new(),
        model: Model::new(rules),
        tick,
        removed: Vec::new(),
        errors: 0,
        over: false,
    };
    driver.subscribe().await.map_err(outside)?;
    let end = driver.run(program).await;
    driver.consumers.clear();
    good("delete", queue.delete(&name).await).map_err(outside)?;
    end.map(|()| driver.model.coverage)
}

struct Driver {
    queue: Arc<dyn Queue>,
    name: QueueName,
    consumers: Vec<Box<dyn Consumer>>,
    model: Model,
    tick: Duration,
    /// Dead letters that were redriven or discarded.
    removed: Vec<DeadId>,
    errors: u32,
    /// Nobody can tell any more where everything is.
    over: bool,
}

impl Driver {
    async fn subscribe(&mut self) -> Judgement {
        for name in CONSUMERS {
            let rules = self.model.rules;
            let max = NonZeroU32::new(rules.max_attempts).unwrap_or(NonZeroU32::MIN);
            let subscription =
                Subscription::new(self.name.clone()).consumer(name).lease(rules.lease).max_attempts(max);
            self.consumers.push(good("subscribe", self.queue.subscribe(&subscription).await)?);
        }
        Ok(())
    }

    async fn run(&mut self, program: &[Op]) -> Result<(), Failure> {
        for (at, op) in program.iter().enumerate() {
            asserted();
            // A panic of the backend is a finding like any other.
            let step = AssertUnwindSafe(self.step(op)).catch_unwind().await;
            let judged = step.unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))));
            judged.map_err(|why| Failure { call: at + 1, why })?;
            if self.over {
                break;
            }
        }
        Ok(())
    }

    async fn step(&mut self, op: &Op) -> Judgement {
        match op {
            Op::Publish(drafts) => self.publish(drafts).await,
            Op::PublishBad(good) => self.publish_bad(*good).await,
            Op::Receive { who, max, wait } => {
                let asked = Asked { consumer: *who, max: *max, wait: self.time(*wait) };
                self.receive(asked).await
            }
            Op::Settle { words, garbage } => self.settle(words, *garbage).await,
            Op::Extend(pick) => self.extend(*pick, 0).await,
            Op::SettleElsewhere(pick) => self.settle_elsewhere(*pick).await,
            Op::ExtendElsewhere(pick) => self.extend(*pick, 1).await,
            Op::Advance(wait) => {
                sleep(self.time(*wait)).await;
                Ok(())
            }
            Op::Purge(what) => self.purge(*what).await,
            Op::Stats => self.stats().await,
            Op::Dead => self.dead().await,
            Op::Redrive(picks) => self.redrive(picks).await,
            Op::Discard(pick) => self.discard(*pick).await,
            Op::Reschedule(pick, to) => self.reschedule(*pick, *to).await,
        }
    }

    fn time(&self, milli: Milli) -> Duration {
        self.tick * milli / 1_000
    }

    fn message(&self, draft: &Draft, nth: usize) -> Message {
        let nth = self.model.messages.len() + nth + 1;
        let mut message = Message::new(format!("payload {nth}"))
            .with_kind("model")
            .with_header("number", nth.to_string())
            .with_priority(Priority::new(draft.priority).unwrap_or_default())
            .with_delay(self.time(draft.delay));
        if let Some(max) = draft.max_attempts.and_then(NonZeroU32::new) {
            message = message.with_max_attempts(max);
        }
        if let Some(ttl) = draft.ttl {
            message = message.with_ttl(self.time(ttl));
        }
        if let Some(key) = draft.key {
            message = message.with_dedup_key(format!("key {key}"));
        }
        message
    }

    async fn publish(&mut self, drafts: &[Draft]) -> Judgement {
        let batch: Vec<Message> =
            drafts.iter().enumerate().map(|(nth, draft)| self.message(draft, nth)).collect();
        let inv = Instant::now();
        let answers = self.queue.publish(&self.name.clone().into(), batch.clone()).await;
        let call = until_now(inv);
        let answers = all("publish", batch.len(), answers)?;
        let answers: Vec<Published> =
            answers.into_iter().map(|answer| good("publish", answer)).collect::<Result<_, _>>()?;
        publish::judge(&mut self.model, call, &batch, &answers)
    }

    async fn publish_bad(&mut self, good: u8) -> Judgement {
        let draft = Draft { priority: 5, delay: 0, max_attempts: None, ttl: None, key: None };
        let mut batch: Vec<Message> = (0..usize::from(good)).map(|nth| self.message(&draft, nth)).collect();
        let place = batch.len() / 2;
        batch.insert(place, Message::new("").with_kind("k".repeat(10_000)));
        let answers = self.queue.publish(&self.name.clone().into(), batch).await;
        let named = invalid("publish of a bad batch", &answers)?;
        self.model.coverage.note("bad batch refused");
        if named == Some(place) { Ok(()) } else { Err(format!("the bad message is {place}, not {named:?}")) }
    }

    async fn receive(&mut self, asked: Asked) -> Judgement {
        let inv = Instant::now();
        let came = self.consumers[asked.consumer].receive(asked.max, asked.wait).await;
        let call = until_now(inv);
        let came: Vec<Delivery> = good("receive", came)?;
        if let Some(delivery) = came.iter().find(|delivery| delivery.queue != self.name) {
            return Err(format!("a delivery says that it is from {}", delivery.queue));
        }
        receive::judge(&mut self.model, call, asked, &came)
    }

    fn verdict(&mut self, delivery: usize, word: Word) -> Result<Verdict, String> {
        self.errors += 1;
        let error = format!("error {}", self.errors);
        Ok(match word {
            Word::Ack => Verdict::Ack,
            Word::Retry(after) => Verdict::retry(self.time(after), error),
            Word::Release(after) => Verdict::Release { after: self.time(after) },
            Word::Reject => Verdict::reject(error),
            Word::Undecodable => Verdict::DeadLetter { reason: Refusal::Undecodable, error },
            Word::RetryByPolicy => {
                let attempt = self.model.deliveries[delivery].attempt;
                let backoff = good("backoff", Backoff::new(self.tick, 3.0, self.tick * 2))?;
                let (wait, due) =
                    (backoff.delay(attempt, 0.0), policy_wait(&mut self.model.coverage, attempt, self.tick));
                if wait != due {
                    return Err(format!("the policy waits {wait:?} at attempt {attempt}, not {due:?}"));
                }
                Verdict::retry(wait, error)
            }
        })
    }

    async fn settle(&mut self, words: &[(Pick, Word)], garbage: bool) -> Judgement {
        let count = self.model.deliveries.len();
        let mut asked: Vec<Option<usize>> = Vec::new();
        let mut verdicts = Vec::new();
        for (pick, word) in words {
            let Some(delivery) = pick.of(count) else { return Ok(()) };
            verdicts.push((self.model.deliveries[delivery].receipt.clone(), self.verdict(delivery, *word)?));
            asked.push(Some(delivery));
        }
        let Some(consumer) = asked[0].map(|first| self.model.deliveries[first].consumer) else {
            return Ok(());
        };
        if garbage {
            asked.insert(1, None);
            verdicts.insert(1, (Receipt::new("nobody made this"), Verdict::Ack));
        }
        let inv = Instant::now();
        let answers = self.consumers[consumer].settle(&verdicts).await;
        let call = until_now(inv);
        let mut failing = garbage;
        for ((delivery, (_, verdict)), answer) in
            asked.iter().zip(&verdicts).zip(all("settle", verdicts.len(), answers)?)
        {
            let Some(delivery) = *delivery else {
                invalid("a verdict by a receipt that nobody made", &answer)?;
                continue;
            };
            let answer = good("settle", answer)?;
            failing |= matches!(answer, polyqueue::Settled::AlreadySettled | polyqueue::Settled::LeaseLost);
            settle::judge(&mut self.model, call, consumer, delivery, verdict, answer)?;
        }
        self.model.coverage.note_if(verdicts.len() > 1, "batch of verdicts");
        self.model.coverage.note_if(verdicts.len() > 1 && failing, "batch of verdicts with a failing item");
        Ok(())
    }

    async fn settle_elsewhere(&mut self, pick: Pick) -> Judgement {
        let Some(delivery) = pick.of(self.model.deliveries.len()) else { return Ok(()) };
        let consumer = 1 - self.model.deliveries[delivery].consumer;
        let verdicts = [(self.model.deliveries[delivery].receipt.clone(), Verdict::Ack)];
        let inv = Instant::now();
        let answers = self.consumers[consumer].settle(&verdicts).await;
        let call = until_now(inv);
        settle::judge(&mut self.model, call, consumer, delivery, &Verdict::Ack, one("settle", answers)?)
    }

    /// At its own consumer, or `elsewhere` = 1.
    async fn extend(&mut self, pick: Pick, elsewhere: usize) -> Judgement {
        let Some(delivery) = pick.of(self.model.deliveries.len()) else { return Ok(()) };
        let consumer = self.model.deliveries[delivery].consumer ^ elsewhere;
        let receipts = [self.model.deliveries[delivery].receipt.clone()];
        let inv = Instant::now();
        let answers = self.consumers[consumer].extend(&receipts).await;
        let call = until_now(inv);
        extend::judge(&mut self.model, call, consumer, delivery, one("extend", answers)?)
    }

    /// Waits until nothing is about to happen by itself.
    async fn calm(&self) {
        loop {
            let now = Instant::now();
            let about = self.model.windows().filter(|window| window.from < now + CALL && now < window.by);
            match about.map(|window| window.by).max() {
                Some(by) if !self.model.rules.exact() => sleep_until(by).await,
                _ => return,
            }
        }
    }

    async fn purge(&mut self, what: Purge) -> Judgement {
        self.calm().await;
        self.stats().await?;
        let inv = Instant::now();
        let removed = self.queue.purge(&self.name, what).await;
        let call = until_now(inv);
        // Something may have become ready meanwhile, and been removed, or not.
        if !self.model.rules.exact() && purge::unsure(&self.model, call) {
            self.over = true;
            return Ok(());
        }
        purge::judge(&mut self.model, call, what, good("purge", removed)?)
    }

    async fn stats(&mut self) -> Judgement {
        let inv = Instant::now();
        let stats = self.queue.stats(&self.name).await;
        let call = until_now(inv);
        stats::judge(&mut self.model, call, &good("stats", stats)?)
    }

    async fn dead(&mut self) -> Judgement {
        let inv = Instant::now();
        let (mut dead_letters, mut pages) = (Vec::new(), 0);
        let mut page = Page::first(2);
        loop {
            let listed = self.queue.dead_letters(&self.name, &DeadFilter::all(), page).await;
            let listed = good("the listing of dead letters", listed)?;
            dead_letters.extend(listed.dead_letters);
            pages += 1;
            match listed.next {
                Some(cursor) if pages < 1_000 => page = Page::after(cursor, 2),
                Some(_) => return Err("the listing of dead letters does not end".into()),
                None => break,
            }
        }
        dead::judge_listing(&mut self.model, until_now(inv), &dead_letters, pages)
    }

    /// Ids of dead letters, one of four of one that is gone, if any is.
    fn dead_ids(&self, picks: &[Pick]) -> Vec<DeadId> {
        let id = |pick: &Pick| {
            let gone = matches!(pick, Pick::Any(nth) if nth % 4 == 0) || self.model.dead.is_empty();
            if gone && let Some(at) = pick.of(self.removed.len()) {
                return Some(self.removed[at].clone());
            }
            self.model.dead[pick.of(self.model.dead.len())?].id.clone()
        };
        picks.iter().filter_map(id).collect()
    }

    async fn redrive(&mut self, picks: &[Pick]) -> Judgement {
        self.dead().await?;
        let ids = self.dead_ids(picks);
        if ids.is_empty() {
            return Ok(());
        }
        let inv = Instant::now();
        let moved = self.queue.redrive(&self.name, &ids).await;
        let call = until_now(inv);
        let moved = good("redrive", moved)?;
        dead::judge_redrive(&mut self.model, call, &ids, &moved)?;
        self.removed.extend(ids);
        Ok(())
    }

    async fn discard(&mut self, pick: Pick) -> Judgement {
        self.dead().await?;
        let ids = self.dead_ids(&[pick]);
        if ids.is_empty() {
            return Ok(());
        }
        let removed = good("discard", self.queue.discard(&self.name, &ids).await)?;
        dead::judge_discard(&mut self.model, &ids, &removed)?;
        self.removed.extend(ids);
        Ok(())
    }

    async fn reschedule(&mut self, pick: Pick, to: Option<Milli>) -> Judgement {
        let Some(message) = pick.of(self.model.messages.len()) else { return Ok(()) };
        let to = to.map_or(Reschedule::Cancel, |after| Reschedule::After(self.time(after)));
        let inv = Instant::now();
        let id = self.model.messages[message].sent.id();
        let answer = self.queue.reschedule(&self.name, id, to).await;
        let call = until_now(inv);
        reschedule::judge(&mut self.model, call, message, to, good("reschedule", answer)?)
    }
}

fn until_now(inv: Instant) -> Span {
    Span { inv, ret: Instant::now() }
}
