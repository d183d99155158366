//! A consumer: the contract's verbs, translated for its queue.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use polyqueue::{
    Consumer, Delivery, Error, Extended, QueueName, Receipt, Result, Settled, Subscription, Verdict,
};

use crate::desk::Desk;
use crate::handle::Handle;
use crate::line::{Answer, Handed, Line};
use crate::receipt::{ReaderId, Stub};
use crate::receive::Receive;

/// A consumer of one queue.
pub(crate) struct MemoryConsumer {
    pub(crate) id: ReaderId,
    pub(crate) desk: Desk,
    queue: QueueName,
    handle: Arc<Handle>,
}

impl MemoryConsumer {
    /// # Errors
    /// `NotFound` when the queue was deleted meanwhile, `Closed` when the handle was closed.
    pub(crate) fn join(handle: &Arc<Handle>, desk: Desk, subscription: &Subscription) -> Result<Self> {
        // One sequence for the process: a receipt of another broker is another consumer's.
        static IDS: AtomicU64 = AtomicU64::new(0);
        let queue = subscription.queue.clone();
        let id = ReaderId(IDS.fetch_add(1, Relaxed));
        let consumer = Self { id, desk, queue, handle: handle.clone() };
        handle.consumers.lock().insert(id, consumer.desk.clone());
        consumer.desk.call(|line| {
            consumer.check_open(line)?;
            line.join(id, subscription);
            Ok(())
        })?;
        Ok(consumer)
    }

    /// Asked under the queue's lock, so that nobody begins to wait after a close has ended all waits.
    pub(crate) fn check_open(&self, line: &Line) -> Result<()> {
        self.handle.check_open()?;
        if line.is_deleted() { Err(Error::not_found(self.queue.clone())) } else { Ok(()) }
    }

    /// What the end of a wait means to its receive.
    pub(crate) fn answered(&self, answer: Answer) -> Result<Vec<Handed>> {
        match answer {
            Answer::Handed(handed) => Ok(handed),
            Answer::Closed => Err(Error::Closed),
            Answer::Deleted => Err(Error::not_found(self.queue.clone())),
        }
    }

    pub(crate) fn deliver(&self, handed: Handed) -> Delivery {
        Delivery {
            queue: self.queue.clone(),
            message: handed.message,
            attempt: handed.attempt,
            receipt: handed.stub.receipt(),
            lease_until: self.desk.clock().instant(handed.stub.until),
        }
    }

    fn settle_one(&self, line: &mut Line, receipt: &Receipt, verdict: &Verdict) -> Result<Settled> {
        self.handle.limits.check_verdict(verdict)?;
        let (answer, busy) = line.settle(self.id, Stub::read(receipt)?, verdict);
        self.desk.meter.settled(verdict, answer, busy);
        Ok(answer)
    }

    fn extend_one(&self, line: &mut Line, receipt: &Receipt) -> Result<Extended> {
        let until = line.extend(self.id, Stub::read(receipt)?);
        Ok(until.map_or(Extended::LeaseLost, |until| Extended::Until(self.desk.clock().instant(until))))
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        self.handle.check_open()?;
        self.handle.limits.check_wait(wait)?;
        if max == 0 {
            return Ok(Vec::new());
        }
        tokio::task::coop::consume_budget().await;
        Receive::new(self, max, wait).await
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        self.handle.check_open()?;
        tokio::task::coop::consume_budget().await;
        let settle = |line: &mut Line| {
            let one = |(at, (receipt, verdict)): (usize, &(Receipt, Verdict))| {
                self.settle_one(line, receipt, verdict).map_err(|error| error.at(at))
            };
            verdicts.iter().enumerate().map(one).collect()
        };
        Ok(self.desk.call(settle))
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        self.handle.check_open()?;
        let extend = |line: &mut Line| {
            let one = |(at, receipt): (usize, &Receipt)| {
                self.extend_one(line, receipt).map_err(|error| error.at(at))
            };
            receipts.iter().enumerate().map(one).collect()
        };
        Ok(self.desk.call(extend))
    }

    async fn close(&self) -> Result<()> {
        self.desk.call(|line| line.close_reader(self.id));
        Ok(())
    }
}

impl fmt::Debug for MemoryConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConsumer")
            .field("queue", &self.queue)
            .field("id", &self.id.0)
            .finish_non_exhaustive()
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.handle.consumers.lock().remove(&self.id);
        self.desk.call(|line| line.leave(self.id));
    }
}
