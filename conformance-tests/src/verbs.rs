//! What nearly every case does, each in one call that fails at the caller's line.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use polyqueue::{
    Consumer, Cursor, DeadFilter, DeadLetter, Delivery, Destination, Message, MessageId, Page, Published,
    Queue, QueueName, Receipt, Settled, Verdict,
};
use tokio::time::Instant;

use crate::fail::asserted;
use crate::{Env, Fail, Outcome};

/// Publishes one message that must be stored, to a queue or a topic.
#[track_caller]
pub fn publish_one(
    queue: &Arc<dyn Queue>,
    to: impl Into<Destination>,
    message: Message,
) -> impl Future<Output = Result<MessageId, Fail>> + Send {
    let (here, queue, to) = (Location::caller(), queue.clone(), to.into());
    async move {
        let mut ids = publish_at(here, &queue, &to, vec![message]).await?;
        ids.pop().ok_or_else(|| Fail::at(here, "one message published, no answer"))
    }
}

/// Publishes messages that must all be stored, in one batch.
#[track_caller]
pub fn publish_all(
    queue: &Arc<dyn Queue>,
    to: impl Into<Destination>,
    batch: Vec<Message>,
) -> impl Future<Output = Result<Vec<MessageId>, Fail>> + Send {
    let (here, queue, to) = (Location::caller(), queue.clone(), to.into());
    async move { publish_at(here, &queue, &to, batch).await }
}

/// Publishes one message and answers what became of it.
#[track_caller]
pub fn publish_any(
    queue: &Arc<dyn Queue>,
    to: impl Into<Destination>,
    message: Message,
) -> impl Future<Output = Result<polyqueue::Result<Published>, Fail>> + Send {
    let (here, queue, to) = (Location::caller(), queue.clone(), to.into());
    async move {
        asserted();
        match queue.publish(&to, vec![message]).await {
            Err(error) => Ok(Err(error)),
            Ok(mut answers) => match (answers.pop(), answers.len()) {
                (Some(answer), 0) => Ok(answer),
                (_, more) => Err(Fail::at(here, format!("one message, {} answers", more + 1))),
            },
        }
    }
}

async fn publish_at(
    here: &'static Location<'static>,
    queue: &Arc<dyn Queue>,
    to: &Destination,
    batch: Vec<Message>,
) -> Result<Vec<MessageId>, Fail> {
    asserted();
    let ids: Vec<MessageId> = batch.iter().map(|message| message.id().clone()).collect();
    let fail = |error| Fail::at(here, format!("publish: {error}"));
    let answers = queue.publish(to, batch).await.map_err(fail)?;
    let answered = answers.into_iter().collect::<polyqueue::Result<Vec<_>>>().map_err(fail)?;
    let stored: Vec<Published> = ids.iter().cloned().map(Published::stored).collect();
    if answered != stored {
        return Err(Fail::at(here, format!("published {ids:?}, answered {answered:?}")));
    }
    Ok(ids)
}

/// Receives one message; fails when none comes within `wait`.
#[track_caller]
pub fn receive_one(
    consumer: &dyn Consumer,
    wait: Duration,
) -> impl Future<Output = Result<Delivery, Fail>> + Send {
    let here = Location::caller();
    async move {
        asserted();
        let mut came =
            consumer.receive(1, wait).await.map_err(|error| Fail::at(here, format!("receive: {error}")))?;
        match (came.pop(), came.len()) {
            (Some(delivery), 0) => Ok(delivery),
            (Some(_), more) => Err(Fail::at(here, format!("receive(1) brought {}", more + 1))),
            (None, _) => Err(Fail::at(here, format!("nothing came within {wait:?}"))),
        }
    }
}

/// Receives for `wait` and fails when something comes.
#[track_caller]
pub fn receive_none(consumer: &dyn Consumer, wait: Duration) -> impl Future<Output = Outcome> + Send {
    let here = Location::caller();
    async move {
        asserted();
        let came =
            consumer.receive(1, wait).await.map_err(|error| Fail::at(here, format!("receive: {error}")))?;
        match came.first() {
            None => Ok(()),
            Some(it) => {
                let text = format!("{} came (attempt {}), nothing should", it.message.id(), it.attempt);
                Err(Fail::at(here, text))
            }
        }
    }
}

/// Receives and acks until `n` have come, each within `wait_each` of the one before.
#[track_caller]
pub fn drain(
    consumer: &dyn Consumer,
    n: usize,
    wait_each: Duration,
) -> impl Future<Output = Result<Vec<Delivery>, Fail>> + Send {
    let here = Location::caller();
    async move {
        asserted();
        let fail = |what: &str, error: polyqueue::Error| Fail::at(here, format!("{what}: {error}"));
        let mut all = Vec::with_capacity(n);
        while all.len() < n {
            let came = consumer.receive(1, wait_each).await.map_err(|e| fail("receive", e))?;
            if came.is_empty() {
                return Err(Fail::at(
                    here,
                    format!("{} of {n} came, then nothing within {wait_each:?}", all.len()),
                ));
            }
            let acks: Vec<(Receipt, Verdict)> =
                came.iter().map(|it| (it.receipt.clone(), Verdict::Ack)).collect();
            let answers = consumer.settle(&acks).await.map_err(|e| fail("ack", e))?;
            for answer in answers {
                match answer.map_err(|e| fail("ack", e))? {
                    Settled::Applied => {}
                    other => return Err(Fail::at(here, format!("ack answered {other:?}"))),
                }
            }
            all.extend(came);
        }
        Ok(all)
    }
}

/// Gives one verdict and returns the answer to it.
#[track_caller]
pub fn settle_one(
    consumer: &dyn Consumer,
    receipt: &Receipt,
    verdict: Verdict,
) -> impl Future<Output = Result<Settled, Fail>> + Send {
    let (here, receipt) = (Location::caller(), receipt.clone());
    async move {
        asserted();
        let fail = |error: polyqueue::Error| Fail::at(here, format!("settle: {error}"));
        let mut answers = consumer.settle(&[(receipt, verdict)]).await.map_err(fail)?;
        match (answers.pop(), answers.len()) {
            (Some(answer), 0) => answer.map_err(fail),
            (_, more) => Err(Fail::at(here, format!("one verdict, {} answers", more + 1))),
        }
    }
}

/// All dead letters of a queue, page by page.
#[track_caller]
pub fn dead_all(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
) -> impl Future<Output = Result<Vec<DeadLetter>, Fail>> + Send {
    let (here, queue, name) = (Location::caller(), queue.clone(), name.clone());
    async move {
        asserted();
        let mut all: Vec<DeadLetter> = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let page = Page { limit: 100, after };
            let page = queue.dead_letters(&name, &DeadFilter::all(), page).await;
            let page = page.map_err(|error| Fail::at(here, format!("dead letters: {error}")))?;
            all.extend(page.dead_letters);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }
}

/// Asks `probe` (`|| async { … }`) until it has an answer, for at most `within`.
#[track_caller]
pub fn eventually<T, F: Future<Output = Result<Option<T>, Fail>>>(
    env: &Env,
    within: Duration,
    what: &str,
    mut probe: impl FnMut() -> F,
) -> impl Future<Output = Result<T, Fail>> {
    let (here, pause, what) = (Location::caller(), env.t(0.05), what.to_owned());
    async move {
        asserted();
        let start = Instant::now();
        loop {
            let late = start.elapsed() >= within;
            if let Some(answer) = probe().await? {
                return Ok(answer);
            }
            if late {
                return Err(Fail::at(here, format!("{what}: not within {within:?}")));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Polls a future `polls` times, each time that it asks for it, then drops it; its answer, if it came first.
pub async fn poll_then_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;

    #[allow(dead_code, reason = "compiling it is the test: the body of a case must be Send")]
    fn every_verb_is_send(env: Env, queue: Arc<dyn Queue>, name: QueueName) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            publish_one(&queue, &name, Message::new("")).await?;
            let consumer = queue.subscribe(&env.subscription(&name)).await?;
            let delivery = receive_one(consumer.as_ref(), env.t(1.0)).await?;
            settle_one(consumer.as_ref(), &delivery.receipt, Verdict::Ack).await?;
            drain(consumer.as_ref(), 1, env.t(1.0)).await?;
            let ready = || async { Ok((queue.stats(&name).await?.ready == 0).then_some(())) };
            eventually(&env, env.t(1.0), "empty", ready).await?;
            receive_none(consumer.as_ref(), Duration::ZERO).await?;
            poll_then_drop(consumer.receive(1, env.t(1.0)), 2).await;
            dead_all(&queue, &name).await?;
            Ok(())
        })
    }

    #[tokio::test]
    async fn a_future_is_dropped_after_its_kth_poll() {
        let steps = |n: usize| async move {
            for _ in 0..n {
                tokio::task::yield_now().await;
            }
            n
        };
        assert_eq!(poll_then_drop(steps(2), 2).await, None);
        assert_eq!(poll_then_drop(steps(2), 3).await, Some(2));
        assert_eq!(poll_then_drop(steps(0), 0).await, None);
    }
}
