//! Reading one queue: receives wait, one task does the work.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use polyqueue::{
    Certainty, Consumer, Delivery, Error, Extended, Receipt, Result, Settled, Subscription, Verdict,
    async_trait,
};
use tokio::sync::{mpsc, oneshot};

use crate::connection::publisher::lost;
use crate::consume::buffer::HandOut;
use crate::consume::state::{ConsumerState, Job};
use crate::dead::state::DeadLetters;
use crate::settle::job::SettleJob;
use crate::settle::republish::Republisher;
use crate::topology::lookup::count;
use crate::topology::revival::revive;
use crate::topology::routes::can_enter;
use polyqueue::backend::Begin;

/// A consumer of one queue. Its task ends with it.
pub(crate) struct RabbitConsumer {
    reader: Arc<ConsumerState>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl RabbitConsumer {
    /// Begins to read; the queue exists.
    pub(crate) async fn begin(dead: Arc<DeadLetters>, subscription: Subscription) -> Result<Self> {
        let topology = &dead.publishing.topology;
        let handle = topology.handle.clone();
        let queue = &subscription.queue;
        match count(topology, queue, &topology.names.ready(queue)).await {
            Err(Error::NotFound(_)) if revive(topology, queue).await? => {}
            found => drop(found?),
        }
        // The catalogue says to which life what comes belongs. Nobody waits for it.
        can_enter(topology).await?;
        let alive = handle.lifecycle.enter_open()?;
        let reader = Arc::new(ConsumerState {
            hand_out: HandOut::new(
                subscription.queue.clone(),
                subscription.lease,
                subscription.prefetch,
                handle.deadline,
            ),
            link: handle.consuming(subscription.lease),
            meter: handle.meter.of(&subscription.queue),
            republisher: Arc::new(Republisher {
                queue: subscription.queue.clone(),
                consumer: subscription.consumer.clone(),
                dead,
            }),
            subscription,
            is_told: AtomicBool::new(false),
        });
        reader.heed_hold_limit();
        reader.handle().watch.add(&reader);
        let (jobs, inbox) = mpsc::unbounded_channel();
        tokio::spawn(crate::consume::task::run(reader.clone(), inbox, alive));
        Ok(Self { reader, jobs })
    }

    /// Hands a verdict to the task, unless there is nothing to do; either way it is answered.
    fn submit(&self, receipt: &Receipt, verdict: &Verdict) -> Result<oneshot::Receiver<Result<Settled>>> {
        self.reader.handle().limits.check_verdict(verdict)?;
        let (reply, answer) = oneshot::channel();
        match self.reader.hand_out.begin(receipt)? {
            (_, Begin::AlreadySettled) => drop(reply.send(Ok(Settled::AlreadySettled))),
            (_, Begin::LeaseLost) => drop(reply.send(Ok(Settled::LeaseLost))),
            (key, Begin::Ours(item, since)) => {
                let job = SettleJob { key, item, since, verdict: verdict.clone(), reply };
                self.jobs.send(Job::Settle(job)).map_err(|_| lost())?;
            }
        }
        Ok(answer)
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let handle = self.reader.handle();
        handle.begin().await?;
        handle.limits.check_wait(wait)?;
        if max == 0 {
            return Ok(Vec::new());
        }
        tokio::select! {
            biased;
            taken = self.reader.hand_out.receive(max, wait) => match taken {
                Ok(none) if none.is_empty() => handle.check_open().map(|()| none),
                other => other,
            },
            () = handle.closed() => Err(Error::Closed),
        }
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        let handle = self.reader.handle();
        handle.begin().await?;
        let submitted: Vec<_> =
            verdicts.iter().map(|(receipt, verdict)| self.submit(receipt, verdict)).collect();
        let by = handle.until();
        let mut answers = Vec::with_capacity(submitted.len());
        for submitted in submitted {
            answers.push(match submitted {
                Err(error) => Err(error),
                Ok(answer) => match tokio::time::timeout_at(by, answer).await {
                    Ok(answer) => answer.unwrap_or_else(|_| Err(lost())),
                    Err(_) => Err(Error::timeout("settle", handle.deadline, Certainty::Unknown)),
                },
            });
        }
        handle.events.note_settled(&self.reader.subscription.queue, verdicts, &answers);
        Ok(answers)
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        let handle = self.reader.handle();
        handle.begin().await?;
        let answers: Vec<_> = receipts.iter().map(|receipt| self.reader.hand_out.extend(receipt)).collect();
        handle.events.note_extended(&self.reader.subscription.queue, receipts, &answers);
        Ok(answers)
    }

    async fn close(&self) -> Result<()> {
        let handle = self.reader.handle();
        self.reader.hand_out.close();
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).is_ok() {
            let _ = tokio::time::timeout(handle.deadline, closed).await;
        }
        Ok(())
    }
}

impl fmt::Debug for RabbitConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subscription = &self.reader.subscription;
        f.debug_struct("RabbitConsumer")
            .field("queue", &subscription.queue)
            .field("consumer", &subscription.consumer)
            .finish_non_exhaustive()
    }
}
