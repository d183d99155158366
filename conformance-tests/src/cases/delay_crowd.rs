//! DLY: many delays at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use polyqueue::{Message, MessageId, Queue, QueueName};
use tokio::time::Instant;

use super::arrival::{attentive, timed};
use super::crowd::{ack_all, declared_for_thousands, drain_in_batches, in_tasks};
use super::delay::{arrivals, each_in_time, publish_delayed};
use super::hand::numbered;
use crate::verbs::publish_all;
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

async fn thousands_of_far_delays_hold_up_no_short_one(env: Env) -> Outcome {
    const HOUR: u64 = 3600;
    let (queue, q) = declared_for_thousands(&env, "far").await?;
    let consumer = attentive(&env, &queue, &q).await?;
    let mut rng = env.rng();
    let mut far = || Duration::from_secs(HOUR + rng.below(30 * 24 * HOUR - HOUR));
    publish_all(&queue, &q, (0..5000).map(|_| Message::new("far").with_delay(far())).collect()).await?;
    let delays: Vec<Duration> = (0..20).map(|n| env.t(0.5 + 0.1 * f64::from(n))).collect();
    let (waits, came) =
        tokio::try_join!(publish_delayed(&queue, &q, &delays), arrivals(&env, &*consumer, 20))?;
    each_in_time(&env, waits, &came)
}

async fn equal_delays_keep_their_order(env: Env) -> Outcome {
    let (queue, q) = env.declared("equal").await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let batch = (0..50).map(|n| Message::new(n.to_string()).with_delay(env.t(1.0))).collect();
    publish_all(&queue, &q, batch).await?;
    let drained = drain_in_batches(&env, &*consumer, 50, 1).await?;
    let came: Vec<String> = drained.iter().map(super::arrival::text).collect();
    ensure_eq!(came, (0..50).map(|n| n.to_string()).collect::<Vec<_>>(), "the order");
    Ok(())
}

const N: usize = 2000;

async fn two_thousand_due_at_once_come_at_once(env: Env) -> Outcome {
    let (queue, q) = declared_for_thousands(&env, "burst").await?;
    let crew = Crew { env: env.clone(), q: q.clone(), left: Arc::new(AtomicUsize::new(N)) };
    // What this machine needs for as many that are not delayed; where it is slow, it may be slow with delays as well.
    let bound = Duration::from_secs(1).max(3 * crew.undelayed(&queue).await?) + env.lateness();
    let batch = numbered(N).into_iter().map(|message| message.with_delay(env.t(5.0))).collect();
    let (ids, published) = timed(publish_all(&queue, &q, batch)).await;
    let due = published.ret + env.t(5.0);
    let came = crew.take_all(due + bound + Duration::from_secs(20)).await?;
    let early = came.iter().filter(|(_, at)| *at < published.inv + env.t(5.0)).count();
    ensure_eq!(early, 0, "early hand-outs");
    let last = came.iter().map(|(_, at)| *at).max().ok_or("nothing came")?;
    let late = last.saturating_duration_since(due);
    if late > bound && late <= 3 * crew.undelayed(&queue).await? + env.lateness() {
        env.note_too_slow(format!(
            "the last of two thousand: {late:?} late; as many undelayed ones were as slow then"
        ));
    } else {
        env.in_time_by("the last of two thousand", due, last, bound)?;
    }
    let mut came: Vec<MessageId> = came.into_iter().map(|(id, _)| id).collect();
    let mut ids = ids?;
    came.sort_unstable();
    ids.sort_unstable();
    ensure!(came == ids, "{} hand-outs of {N} messages", came.len());
    Ok(())
}

/// Four consumers that take what comes.
#[derive(Clone)]
struct Crew {
    env: Env,
    q: QueueName,
    left: Arc<AtomicUsize>,
}

impl Crew {
    /// How long as many take that are not delayed.
    async fn undelayed(&self, queue: &Arc<dyn Queue>) -> Result<Duration, Fail> {
        publish_all(queue, &self.q, numbered(N)).await?;
        self.left.store(N, SeqCst);
        let (undelayed, drained) = timed(self.take_all(Instant::now() + Duration::from_secs(40))).await;
        ensure_eq!(undelayed?.len(), N, "undelayed messages");
        self.left.store(N, SeqCst);
        Ok(drained.took())
    }

    /// Everything, with the time at which it came; at the end what came until then.
    async fn take_all(&self, end: Instant) -> Result<Vec<(MessageId, Instant)>, Fail> {
        let came = in_tasks((0..4).map(|_| self.clone().take(end))).await?;
        Ok(came.into_iter().flatten().collect())
    }

    async fn take(self, end: Instant) -> Result<Vec<(MessageId, Instant)>, Fail> {
        let queue = self.env.open().await?;
        let consumer = queue.subscribe(&self.env.subscription(&self.q).lease(self.env.t(200.0))).await?;
        let mut came = Vec::new();
        while self.left.load(SeqCst) > 0 && Instant::now() < end {
            let wait = (end - Instant::now()).min(self.env.t(1.0));
            let batch = consumer.receive(100, wait).await?;
            let at = Instant::now();
            let _ = self.left.fetch_update(SeqCst, SeqCst, |left| Some(left.saturating_sub(batch.len())));
            ack_all(&*consumer, &batch).await?;
            came.extend(batch.iter().map(|delivery| (delivery.message.id().clone(), at)));
        }
        Ok(came)
    }
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-DLY-06",
        "5,000 far delays hold up no short one",
        ["S-DLY-2", "S-DLY-3"],
        Liveness,
        [],
        thousands_of_far_delays_hold_up_no_short_one
    ),
    case!(
        "C-DLY-10",
        "messages that are due together come in the order of their publish",
        ["S-ORD-2", "S-BAT-3"],
        Safety,
        [],
        equal_delays_keep_their_order
    ),
    case!(
        "C-DLY-11",
        "2,000 messages due at once all come within a second, once each",
        ["S-DLY-2", "S-DEL-3"],
        Liveness,
        [],
        two_thousand_due_at_once_come_at_once
    ),
];
