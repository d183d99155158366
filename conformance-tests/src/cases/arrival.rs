//! When a message came: the one place where "never early" and "not late" are judged.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, Delivery, Queue, QueueName, Settled, Verdict};
use tokio::time::Instant;

use crate::verbs::{receive_none, receive_one, settle_one};
use crate::{Env, Fail, Outcome, ensure, ensure_eq};

/// How long a case waits for what must come. Nothing is judged by it: it only ends a case that has failed.
pub(crate) fn patience(env: &Env) -> Duration {
    env.t(20.0).max(Duration::from_secs(10))
}

/// A consumer of a queue that is still empty, with its first receive behind it: that one may have had to connect, so that
/// nobody was really waiting.
pub(super) async fn attentive(
    env: &Env,
    queue: &Arc<dyn Queue>,
    q: &QueueName,
) -> Result<Box<dyn Consumer>, Fail> {
    let consumer = queue.subscribe(&env.subscription(q)).await?;
    receive_none(&*consumer, Duration::ZERO).await?;
    Ok(consumer)
}

/// When a call began and when it ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) inv: Instant,
    pub(super) ret: Instant,
}

impl Span {
    pub(super) fn took(self) -> Duration {
        self.ret - self.inv
    }
}

/// Awaits a call and notes when it began and ended.
pub(super) async fn timed<F: Future>(call: F) -> (F::Output, Span) {
    let inv = Instant::now();
    let output = call.await;
    (output, Span { inv, ret: Instant::now() })
}

/// A hand-out and the `receive` that brought it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) delivery: Delivery,
    pub(super) receive: Span,
}

impl Arrival {
    /// The next message, whoever must have it; fails when none comes.
    pub(super) async fn next(env: &Env, consumer: &dyn Consumer) -> Result<Self, Fail> {
        let (delivery, receive) = timed(receive_one(consumer, patience(env))).await;
        Ok(Self { delivery: delivery?, receive })
    }

    /// The next message, acked.
    pub(super) async fn acked(env: &Env, consumer: &dyn Consumer) -> Result<Self, Fail> {
        let arrival = Self::next(env, consumer).await?;
        ack(consumer, &arrival.delivery).await?;
        Ok(arrival)
    }

    /// The next message, acked, awaited in a task of its own: in one task with what the case does meanwhile, a receive
    /// that nothing wakes would be looked at all the same.
    pub(super) fn awaited_aside(
        env: &Env,
        consumer: impl Into<Arc<dyn Consumer>>,
    ) -> impl Future<Output = Result<Self, Fail>> {
        let (env, consumer) = (env.clone(), consumer.into());
        let task = tokio::spawn(async move { Self::acked(&env, &*consumer).await });
        async { task.await.map_err(|panic| panic.to_string())? }
    }

    /// Its payload as text.
    pub(super) fn text(&self) -> String {
        text(&self.delivery)
    }

    /// Never early: not handed out before `wait` has passed since the call that asked for the wait began. And not late: by
    /// L after the wait that began when the call ended, or after somebody asked for the message, if that was later.
    pub(super) fn waited(&self, env: &Env, call: Span, wait: Duration) -> Outcome {
        self.not_early(call, wait)?;
        let due = (call.ret + wait).max(self.receive.inv);
        let what = format!("{:?}, whose wait was {wait:?}", self.delivery.message);
        env.in_time(&what, due, self.receive.ret)
    }

    /// The first half of [`Arrival::waited`].
    pub(super) fn not_early(&self, call: Span, wait: Duration) -> Outcome {
        let after = self.receive.ret - call.inv;
        ensure!(after >= wait, "{:?} came after {after:?}, its wait was {wait:?}", self.delivery.message);
        Ok(())
    }
}

/// The payload as text.
pub(super) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.message.payload()).into_owned()
}

/// Acks what is surely still ours.
pub(super) async fn ack(consumer: &dyn Consumer, delivery: &Delivery) -> Outcome {
    let settled = settle_one(consumer, &delivery.receipt, Verdict::Ack).await?;
    ensure_eq!(settled, Settled::Applied, "the answer to an ack");
    Ok(())
}

/// Gives a verdict that must take effect, answering when the call began and ended.
pub(super) async fn apply(
    consumer: &dyn Consumer,
    delivery: &Delivery,
    verdict: Verdict,
) -> Result<Span, Fail> {
    let (settled, span) = timed(settle_one(consumer, &delivery.receipt, verdict)).await;
    ensure_eq!(settled?, Settled::Applied, "the answer to a verdict");
    Ok(span)
}
