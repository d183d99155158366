//! Producers and consumers that go on through faults, each lane with a queue, a producer and a consumer of its own.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, Message, Queue, QueueName, Subscription, Verdict};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::arrival::{Span, patience, timed};
use super::hand::brief;
use super::ledger::{Ledger, WORKS_WITHIN, passing};
use crate::link::Link;
use crate::mishap::OnTheWay;
use crate::verbs::eventually;
use crate::{Env, Fail, Fault, Outcome, ensure};

/// Messages that each lane has seen before anything happens to it.
const FLOWING: usize = 10;

/// Lanes under load. What one handle publishes another one consumes.
pub(super) struct Traffic {
    env: Env,
    ledger: Arc<Ledger>,
    lanes: Vec<QueueName>,
    handles: Vec<Arc<dyn Queue>>,
    publishing: CancellationToken,
    consuming: CancellationToken,
    producers: JoinSet<Outcome>,
    consumers: JoinSet<Outcome>,
}

impl Traffic {
    /// A lane for each handle; returns when messages flow on all of them.
    pub(super) async fn start(env: &Env, handles: Vec<Arc<dyn Queue>>) -> Result<Self, Fail> {
        let lanes = (0..handles.len()).map(|nth| env.queue_name(&format!("lane-{nth}"))).collect();
        let mut traffic = Self {
            env: env.clone(),
            ledger: Arc::default(),
            lanes,
            handles,
            publishing: CancellationToken::new(),
            consuming: CancellationToken::new(),
            producers: JoinSet::new(),
            consumers: JoinSet::new(),
        };
        for nth in 0..traffic.lanes.len() {
            traffic.open_lane(nth).await?;
        }
        traffic.flows().await?;
        Ok(traffic)
    }

    async fn open_lane(&mut self, nth: usize) -> Outcome {
        let name = self.lanes[nth].clone();
        let reader = self.handles[nth].clone();
        reader.declare(&name.clone().into()).await?;
        let consumer = reader.subscribe(&stubborn(&self.env, &name)).await?;
        let writer = self.handles[(nth + 1) % self.handles.len()].clone();
        let (env, ledger) = (self.env.clone(), self.ledger.clone());
        self.consumers.spawn(consume(env, ledger, self.consuming.clone(), nth, consumer));
        let (env, ledger) = (self.env.clone(), self.ledger.clone());
        self.producers.spawn(produce(env, ledger, self.publishing.clone(), writer, name));
        Ok(())
    }

    async fn flows(&self) -> Outcome {
        eventually(&self.env, patience(&self.env), "messages on every lane", || async {
            let flowing = |lane| self.ledger.hand_outs(lane) >= FLOWING;
            Ok((0..self.lanes.len()).all(flowing).then_some(()))
        })
        .await
    }

    /// Does this to the broker, for `time`.
    pub(super) async fn suffers(&self, fault: Fault, time: Duration) -> Outcome {
        let faults = self.env.faults().await?;
        let (done, span) = timed(faults.apply(fault)).await;
        if matches!(fault, Fault::Kill9) {
            self.ledger.crashed(span);
        }
        done?;
        sleep(time).await;
        let healed = faults.heal().await;
        self.ledger.disturbed(Span { inv: span.inv, ret: Instant::now() });
        healed
    }

    /// Lets this happen on the way to the broker, for `time`.
    pub(super) async fn suffers_on_the_way(&self, link: &dyn Link, order: OnTheWay, time: Duration) {
        let inv = Instant::now();
        order.happen(link);
        sleep(time).await;
        link.heal();
        self.ledger.disturbed(Span { inv, ret: Instant::now() });
    }

    /// Everything on the broker is lost.
    pub(super) async fn is_wiped(&self) -> Outcome {
        let faults = self.env.faults().await?;
        self.ledger.wipe_begins();
        let (done, span) = timed(faults.apply(Fault::Wipe)).await;
        self.ledger.wiped(span);
        done
    }

    /// A fault is over: on each lane something new is published, handed out and acked in time.
    pub(super) async fn recovers(&self) -> Outcome {
        let healed = Instant::now();
        for lane in 0..self.lanes.len() {
            let first = || async { Ok(self.ledger.first_since(lane, healed)) };
            let what = format!("something new on lane {lane} after the fault");
            let came = eventually(&self.env, 2 * WORKS_WITHIN, &what, first).await?;
            self.env.in_time_by(&what, healed, came, WORKS_WITHIN)?;
        }
        for handle in &self.handles {
            let healthy = || async { Ok(handle.health().await.healthy.then_some(())) };
            eventually(&self.env, WORKS_WITHIN, "a handle in good health", healthy).await?;
        }
        Ok(())
    }

    /// [`Traffic::end`], and by the history, too, nothing is missing.
    pub(super) async fn drain(self) -> Outcome {
        let (env, lanes) = (self.env.clone(), self.lanes.clone());
        let ended = self.end().await;
        lanes.iter().for_each(|lane| env.drained(lane));
        ended
    }

    /// Publishes no more, lets everything that was stored come to its end, and judges what was seen.
    pub(super) async fn end(self) -> Outcome {
        self.publishing.cancel();
        // A publish that is under way may store what is still to come.
        all_well(self.producers).await?;
        let drained = || async { Ok(self.ledger.outstanding().is_empty().then_some(())) };
        // What a lost connection held comes back at the end of its lease.
        let within = brief(&self.env) + 2 * patience(&self.env);
        let drained = eventually(&self.env, within, "the end of every stored message", drained).await;
        // An ack that had no effect shows at the end of its lease.
        sleep(brief(&self.env)).await;
        self.consuming.cancel();
        all_well(self.consumers).await?;
        drained.map_err(|fail| Fail::new(format!("{fail}; missing: {:?}", self.ledger.outstanding())))?;
        let reappeared = self.ledger.reappeared();
        ensure!(reappeared.is_empty(), "the broker had lost them, and yet they came: {reappeared:?}");
        self.ledger.no_ack_was_undone(&self.env)
    }
}

/// Waits until all of them have ended, each without a failure.
pub(super) async fn all_well(mut tasks: JoinSet<Outcome>) -> Outcome {
    while let Some(task) = tasks.join_next().await {
        task.map_err(|error| Fail::new(error.to_string()))??;
    }
    Ok(())
}

/// A subscription under which no fault makes a dead letter.
pub(crate) fn stubborn(env: &Env, name: &QueueName) -> Subscription {
    Subscription::new(name.clone())
        .lease(brief(env))
        .max_attempts(std::num::NonZeroU32::MAX)
        .consumer("conformance")
}

async fn produce(
    env: Env,
    ledger: Arc<Ledger>,
    ended: CancellationToken,
    queue: Arc<dyn Queue>,
    name: QueueName,
) -> Outcome {
    let mut rng = env.rng();
    while !ended.is_cancelled() {
        let bytes = rng.below(300) as usize;
        let message = Message::new(rng.bytes(bytes));
        let id = message.id().clone();
        ledger.publishes(&id);
        let answer = queue.publish(&(&name).into(), vec![message]).await;
        match answer.and_then(|mut answers| answers.remove(0)) {
            Ok(_) => ledger.stored(&id),
            Err(error) => ledger.publish_passes(&error)?,
        }
        sleep(env.t(0.1)).await;
    }
    Ok(())
}

async fn consume(
    env: Env,
    ledger: Arc<Ledger>,
    ended: CancellationToken,
    lane: usize,
    consumer: Box<dyn Consumer>,
) -> Outcome {
    while !ended.is_cancelled() {
        let (came, receive) = timed(consumer.receive(3, env.t(1.0))).await;
        let came = match came {
            Ok(came) => came,
            Err(error) => {
                passing(&error)?;
                sleep(env.t(0.1)).await;
                continue;
            }
        };
        for delivery in &came {
            ledger.came(lane, delivery, receive);
        }
        let acks: Vec<_> = came.iter().map(|it| (it.receipt.clone(), Verdict::Ack)).collect();
        if acks.is_empty() {
            continue;
        }
        match consumer.settle(&acks).await {
            Ok(answers) => {
                ensure!(answers.len() == came.len(), "{} answers to {} acks", answers.len(), came.len());
                for (delivery, answer) in came.iter().zip(&answers) {
                    ledger.acked(delivery, answer)?;
                }
            }
            Err(error) => came.iter().try_for_each(|it| ledger.acked(it, &Err(error.clone())))?,
        }
    }
    Ok(())
}
