//! HIS: histories of all kinds of messages and verdicts while one fault comes after another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Consumer, Delivery, Message, MessageId, Queue, QueueName, Settled, Verdict};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::arrival::{Span, patience, timed};
use super::hand::{brief, level};
use super::ledger::{Ledger, passing};
use super::traffic::{all_well, stubborn};
use crate::link::Link;
use crate::mishap::{OF_THE_BROKER, OnTheWay};
use crate::verbs::{dead_all, eventually};
use crate::{Case, Env, Fail, Fault, Outcome, Rng, case};

const FAULTS: usize = 8;
/// How long a fault lasts at most, and the pause after it.
const LONGEST: f64 = 0.5;

async fn under_faults(env: Env) -> Outcome {
    Crowd::runs(&env, false).await
}

async fn under_faults_and_expiring(env: Env) -> Outcome {
    Crowd::runs(&env, true).await
}

/// Two producers and two consumers of one queue, half of them over a link.
#[derive(Clone)]
struct Crowd {
    env: Env,
    name: QueueName,
    /// Messages expire, and leases are left to end.
    mortal: bool,
    ledger: Arc<Ledger>,
    /// Those that died, as far as is known.
    dead: Arc<Mutex<BTreeSet<MessageId>>>,
    publishing: CancellationToken,
    consuming: CancellationToken,
}

impl Crowd {
    async fn runs(env: &Env, mortal: bool) -> Outcome {
        let (first, name) = env.declared("crowd").await?;
        let linked = env.link().await?;
        let crowd = Self {
            env: env.clone(),
            name,
            mortal,
            ledger: Arc::default(),
            dead: Arc::default(),
            publishing: CancellationToken::new(),
            consuming: CancellationToken::new(),
        };
        let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
        for handle in [&first, &linked.queue] {
            let consumer = handle.subscribe(&stubborn(env, &crowd.name)).await?;
            producers.spawn(crowd.clone().produce(handle.clone(), env.rng()));
            consumers.spawn(crowd.clone().consume(consumer, env.rng()));
        }
        let mut happened = Vec::new();
        let outcome = crowd.suffers(&*linked.link, &mut happened).await;
        let outcome = match outcome {
            Ok(()) => crowd.ends(&first, producers, consumers).await,
            failed => failed,
        };
        outcome.map_err(|fail| Fail::new(format!("{fail}\nafter {}", happened.join(", "))))
    }

    async fn suffers(&self, link: &dyn Link, happened: &mut Vec<String>) -> Outcome {
        let faults = self.env.faults().await?;
        let offered: Vec<Fault> =
            OF_THE_BROKER.iter().copied().filter(|fault| faults.offers(fault.kind())).collect();
        let mut rng = self.env.rng();
        for nth in 0..FAULTS {
            let (began, lasts) = (Instant::now(), Duration::from_secs_f64(LONGEST * rng.unit()));
            if nth % 2 == 0 {
                let fault = rng.pick(&offered).copied().unwrap_or(Fault::Kill9);
                happened.push(format!("{fault:?} for {lasts:?}"));
                let (done, span) = timed(faults.apply(fault)).await;
                if matches!(fault, Fault::Kill9) {
                    self.ledger.crashed(span);
                }
                done?;
                sleep(lasts).await;
                faults.heal().await?;
            } else {
                let order = OnTheWay::any(&mut rng);
                happened.push(format!("{order:?} for {lasts:?}"));
                order.happen(link);
                sleep(lasts).await;
                link.heal();
            }
            self.ledger.disturbed(Span { inv: began, ret: Instant::now() });
            sleep(Duration::from_secs_f64(LONGEST * rng.unit())).await;
        }
        Ok(())
    }

    async fn ends(
        &self,
        queue: &Arc<dyn Queue>,
        producers: JoinSet<Outcome>,
        consumers: JoinSet<Outcome>,
    ) -> Outcome {
        self.publishing.cancel();
        // A publish that is under way may store what is still to come.
        all_well(producers).await?;
        let within = 4 * brief(&self.env) + 2 * patience(&self.env);
        let drained = eventually(&self.env, within, "the end of every stored message", || async {
            let missing = self.missing();
            // What dies by itself is told to nobody.
            if !missing.is_empty() && self.mortal {
                queue.stats(&self.name).await?;
                let dead = dead_all(queue, &self.name).await?;
                let ids = dead.iter().filter_map(|it| it.message().map(|message| message.id().clone()));
                self.dead.lock().extend(ids);
            }
            Ok(self.missing().is_empty().then_some(()))
        });
        let drained = drained.await;
        // An ack that had no effect shows at the end of its lease.
        sleep(brief(&self.env)).await;
        self.consuming.cancel();
        all_well(consumers).await?;
        drained.map_err(|fail| Fail::new(format!("{fail}; missing: {:?}", self.missing())))?;
        self.env.drained(&self.name);
        self.ledger.no_ack_was_undone(&self.env)
    }

    fn missing(&self) -> BTreeSet<MessageId> {
        self.ledger.outstanding().difference(&self.dead.lock()).cloned().collect()
    }

    async fn produce(self, queue: Arc<dyn Queue>, mut rng: Rng) -> Outcome {
        while !self.publishing.is_cancelled() {
            let batch: Vec<Message> = (0..=rng.below(3)).map(|_| self.message(&mut rng)).collect();
            let ids: Vec<MessageId> = batch.iter().map(|message| message.id().clone()).collect();
            ids.iter().for_each(|id| self.ledger.publishes(id));
            let delayed = batch.iter().filter(|message| !message.delay().is_zero());
            delayed.for_each(|message| self.ledger.delays(message.id()));
            match queue.publish(&(&self.name).into(), batch).await {
                Ok(answers) => {
                    for (id, answer) in ids.into_iter().zip(answers) {
                        match answer {
                            Ok(_) => self.ledger.stored(&id),
                            Err(error) => passing(&error)?,
                        }
                    }
                }
                Err(error) => passing(&error)?,
            }
            sleep(self.env.t(0.2)).await;
        }
        Ok(())
    }

    fn message(&self, rng: &mut Rng) -> Message {
        let bytes = rng.below(200) as usize;
        let mut message = Message::new(rng.bytes(bytes)).with_priority(level(1 + rng.below(10) as u8));
        if rng.chance(0.2) {
            message = message.with_delay(self.env.t(2.0 * rng.unit()));
        }
        if self.mortal && rng.chance(0.3) {
            message = message.with_ttl(self.env.t(3.0 + 5.0 * rng.unit()));
        }
        message
    }

    async fn consume(self, consumer: Box<dyn Consumer>, mut rng: Rng) -> Outcome {
        while !self.consuming.is_cancelled() {
            let most = 1 + rng.below(3) as usize;
            let (came, receive) = timed(consumer.receive(most, self.env.t(1.0))).await;
            let came = match came {
                Ok(came) => came,
                Err(error) => {
                    passing(&error)?;
                    sleep(self.env.t(0.1)).await;
                    continue;
                }
            };
            for delivery in came {
                self.ledger.came(0, &delivery, receive);
                if let Some(verdict) = self.verdict(&mut rng, &delivery) {
                    self.settle(&*consumer, &delivery, verdict).await?;
                }
            }
        }
        Ok(())
    }

    /// None where the lease is left to end.
    fn verdict(&self, rng: &mut Rng, delivery: &Delivery) -> Option<Verdict> {
        // In the end each is acked.
        let careless = !self.publishing.is_cancelled() && delivery.attempt < 4;
        match rng.below(10) {
            0 if careless => Some(Verdict::retry(self.env.t(rng.unit()), "again")),
            1 if careless => Some(Verdict::Release { after: Duration::ZERO }),
            2 if careless && self.mortal => None,
            _ => Some(Verdict::Ack),
        }
    }

    async fn settle(&self, consumer: &dyn Consumer, delivery: &Delivery, verdict: Verdict) -> Outcome {
        let is_ack = verdict == Verdict::Ack;
        let id = delivery.message.id();
        let verdict = [(delivery.receipt.clone(), verdict)];
        let answer = consumer.settle(&verdict).await.and_then(|mut answers| answers.remove(0));
        match answer {
            answer if is_ack => self.ledger.acked(delivery, &answer),
            // Its time was over when it was given back.
            Ok(Settled::Died) if self.mortal => {
                self.dead.lock().insert(id.clone());
                Ok(())
            }
            Ok(Settled::Died) => Err(format!("{verdict:?} on {id} was answered Died").into()),
            Ok(_) => Ok(()),
            Err(error) => passing(&error),
        }
    }
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-HIS-03",
        "a crowd that delays, retries and releases while one fault comes after another: its history breaks no rule",
        ["S-FLT-2", "S-DEL-1", "S-DEL-2", "S-DLY-1", "S-LSE-1", "S-SET-2", "S-ATT-2"],
        Both,
        [Fault(Kill9), Link],
        under_faults
    ),
    case!(
        "C-HIS-04",
        "the same with messages that expire and leases that are left to end",
        ["S-FLT-2", "S-DEL-1", "S-DEL-2", "S-DLY-1", "S-LSE-1", "S-SET-2", "S-ATT-2", "S-TTL-1", "S-TTL-2"],
        Both,
        [Fault(Kill9), Link],
        under_faults_and_expiring
    ),
];
