//! Breaking the broker and going on with the handles that were open.

use super::arrival::{Arrival, patience, timed};
use crate::{Env, Fail, Fault, Outcome, ensure};
use polyqueue::{Consumer, Message, Queue, QueueName};
use std::sync::Arc;
use tokio::time::{Instant, sleep};

/// The broker goes and comes again; the clients stay.
pub(super) async fn fault_and_heal(env: &Env, fault: Fault) -> Outcome {
    let faults = env.faults().await?;
    faults.apply(fault).await?;
    faults.heal().await
}

/// The next message at a handle that may still be reconnecting: passing errors are waited out.
pub(super) async fn next_after_fault(env: &Env, consumer: &dyn Consumer) -> Result<Arrival, Fail> {
    let start = Instant::now();
    loop {
        let (came, receive) = timed(consumer.receive(1, env.t(1.0))).await;
        match came {
            Ok(mut came) => {
                if let Some(delivery) = came.pop() {
                    return Ok(Arrival { delivery, receive });
                }
            }
            Err(error) if error.is_transient() => sleep(env.t(0.2)).await,
            Err(error) => return Err(error.into()),
        }
        ensure!(start.elapsed() < 2 * patience(env), "nothing came after the fault");
    }
}

/// Publishes a message at a handle that may still be reconnecting; when an answer is unknown, there may be two of it.
pub(super) async fn publish_after_fault(
    env: &Env,
    queue: &Arc<dyn Queue>,
    q: &QueueName,
    text: &'static str,
) -> Outcome {
    let start = Instant::now();
    loop {
        match queue.publish(&q.into(), vec![Message::new(text)]).await.and_then(|mut items| items.remove(0)) {
            Ok(_) => return Ok(()),
            Err(error) if error.is_transient() => sleep(env.t(0.2)).await,
            Err(error) => return Err(error.into()),
        }
        ensure!(start.elapsed() < 2 * patience(env), "nothing could be published after the fault");
    }
}

/// Whether a crash undid what was done too shortly before it for a machine as slow as this one was then: the broker declares what
/// it may undo of its last moments, and keeps the rest no sooner than it gets to it.
pub(super) fn kept_too_late(env: &Env, done: Instant, killed: Instant) -> bool {
    let window = env.info().ack_window;
    let what = "what a broker keeps within its window";
    !window.is_zero() && env.excuses(what, done, killed, window)
}
