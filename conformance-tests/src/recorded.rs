//! The wrapper that every handle of a case has around it: it writes down each call and changes nothing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    Admin, Consumer, DeadFilter, DeadId, DeadPage, Delivery, Destination, Error, Events, Extended, Health,
    Inbox, Info, Message, MessageId, Page, Pattern, Published, Purge, Queue, QueueName, QueueSpec,
    QueueStats, Receipt, ReplyAddress, Reschedule, Result, Settled, Subscription, Verdict, async_trait,
};

use crate::history::{Answer, Call, Dead, Handout, Pending, Reader, Recorder, Sent};
use crate::namespace::{Namespace, Namespaces};

/// A queue whose calls are written down.
#[derive(Debug)]
pub(crate) struct Recorded {
    inner: Arc<dyn Queue>,
    recorder: Arc<Recorder>,
    client: u64,
    namespaces: Arc<Namespaces>,
    /// They end with this one.
    children: Mutex<Vec<Weak<Recorded>>>,
}

impl Recorded {
    pub(crate) fn new(inner: Arc<dyn Queue>, own: &Namespace, namespaces: Arc<Namespaces>) -> Arc<Self> {
        let recorder = own.recorder().clone();
        let client = recorder.fresh_id();
        Arc::new(Self { inner, recorder, client, namespaces, children: Mutex::default() })
    }

    /// It begins to end, and its children with it.
    fn begin_to_end(&self) -> Vec<Pending> {
        let mut pending = vec![self.begin(Call::EndClient)];
        let children: Vec<_> = self.children.lock().iter().filter_map(Weak::upgrade).collect();
        pending.extend(children.iter().flat_map(|child| child.begin_to_end()));
        pending
    }

    fn begin(&self, call: Call) -> Pending {
        self.recorder.begin(self.client, call)
    }
}

fn answer<T, U>(result: &Result<T>, note: impl FnOnce(&T) -> U) -> Answer<U> {
    Some(result.as_ref().map(note).map_err(Error::certainty))
}

fn each<T, U>(
    results: &[Result<T>],
    note: impl Fn(&T) -> U,
) -> Vec<std::result::Result<U, polyqueue::Certainty>> {
    results.iter().map(|result| result.as_ref().map(&note).map_err(Error::certainty)).collect()
}

/// Finishes `pending`, putting what was noted into the call's `answer`.
macro_rules! finish {
    ($pending:expr, $kind:ident, $noted:expr) => {{
        let noted = $noted;
        $pending.finish(|call| {
            if let Call::$kind { answer, .. } = call {
                *answer = noted;
            }
        });
    }};
}

#[async_trait]
impl Queue for Recorded {
    fn info(&self) -> Info {
        self.inner.info()
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        let pending = self.begin(Call::Declare { spec: spec.clone(), answer: None });
        let result = self.inner.declare(spec).await;
        finish!(pending, Declare, answer(&result, |()| ()));
        result
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        let sent = batch.iter().map(Sent::from).collect();
        let pending = self.begin(Call::Publish { to: to.clone(), sent, answer: None });
        let result = self.inner.publish(to, batch).await;
        finish!(pending, Publish, answer(&result, |all| each(all, Published::clone)));
        result
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        let call = Call::Reschedule { queue: queue.clone(), id: id.clone(), to, answer: None };
        let pending = self.begin(call);
        let result = self.inner.reschedule(queue, id, to).await;
        finish!(pending, Reschedule, answer(&result, |&done| done));
        result
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        let consumer = self.recorder.fresh_id();
        let reader = Reader {
            consumer,
            lease: subscription.lease,
            max_attempts: subscription.max_attempts,
            prefetch: subscription.prefetch,
        };
        let queue = subscription.queue.clone();
        let pending = self.begin(Call::Subscribe { queue: queue.clone(), reader, answer: None });
        let result = self.inner.subscribe(subscription).await;
        finish!(pending, Subscribe, answer(&result, |_| ()));
        let (recorder, client) = (self.recorder.clone(), self.client);
        Ok(Box::new(RecordedConsumer { inner: result?, recorder, client, consumer, queue }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        let pending = self.begin(Call::Look);
        let result = self.inner.inbox().await;
        pending.finish(|_| ());
        let (recorder, client) = (self.recorder.clone(), self.client);
        Ok(Box::new(RecordedInbox { inner: result?, recorder, client }))
    }

    async fn health(&self) -> Health {
        let pending = self.begin(Call::Look);
        let health = self.inner.health().await;
        pending.finish(|_| ());
        health
    }

    fn events(&self) -> Events {
        self.inner.events()
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        let inner = self.inner.namespace(namespace)?;
        let child = Self::new(inner, &self.namespaces.of(namespace), self.namespaces.clone());
        self.children.lock().push(Arc::downgrade(&child));
        Ok(child)
    }

    async fn close(&self) -> Result<()> {
        let pending = self.begin_to_end();
        let result = self.inner.close().await;
        pending.into_iter().for_each(|pending| pending.finish(|_| ()));
        result
    }
}

#[async_trait]
impl Admin for Recorded {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        let pending = self.begin(Call::Look);
        let result = self.inner.queues().await;
        pending.finish(|_| ());
        result
    }

    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        let call = Call::Unbind { queue: queue.clone(), pattern: pattern.clone(), answer: None };
        let pending = self.begin(call);
        let result = self.inner.unbind(queue, pattern).await;
        finish!(pending, Unbind, answer(&result, |()| ()));
        result
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        let pending = self.begin(Call::Delete { queue: queue.clone(), answer: None });
        let result = self.inner.delete(queue).await;
        finish!(pending, Delete, answer(&result, |()| ()));
        result
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let pending = self.begin(Call::Look);
        let result = self.inner.stats(queue).await;
        pending.finish(|_| ());
        result
    }

    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        let pending = self.begin(Call::Purge { queue: queue.clone(), what, answer: None });
        let result = self.inner.purge(queue, what).await;
        finish!(pending, Purge, answer(&result, |&removed| removed));
        result
    }

    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage> {
        let pending = self.begin(Call::DeadLetters { queue: queue.clone(), answer: None });
        let result = self.inner.dead_letters(queue, filter, page).await;
        finish!(
            pending,
            DeadLetters,
            answer(&result, |page| page.dead_letters.iter().map(Dead::from).collect())
        );
        result
    }

    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        let call = Call::Redrive { queue: queue.clone(), ids: ids.to_vec(), answer: None };
        let pending = self.begin(call);
        let result = self.inner.redrive(queue, ids).await;
        finish!(pending, Redrive, answer(&result, Clone::clone));
        result
    }

    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        let call = Call::Discard { queue: queue.clone(), ids: ids.to_vec(), answer: None };
        let pending = self.begin(call);
        let result = self.inner.discard(queue, ids).await;
        finish!(pending, Discard, answer(&result, Clone::clone));
        result
    }
}

#[derive(Debug)]
struct RecordedConsumer {
    inner: Box<dyn Consumer>,
    recorder: Arc<Recorder>,
    client: u64,
    consumer: u64,
    queue: QueueName,
}

impl RecordedConsumer {
    fn begin(&self, call: Call) -> Pending {
        self.recorder.begin(self.client, call)
    }
}

#[async_trait]
impl Consumer for RecordedConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let (queue, consumer) = (self.queue.clone(), self.consumer);
        let pending = self.begin(Call::Receive { queue, consumer, max, wait, answer: None });
        let result = self.inner.receive(max, wait).await;
        finish!(pending, Receive, answer(&result, |all| all.iter().map(Handout::from).collect()));
        result
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        let (queue, consumer) = (self.queue.clone(), self.consumer);
        let call = Call::Settle { queue, consumer, verdicts: verdicts.to_vec(), answer: None };
        let pending = self.begin(call);
        let result = self.inner.settle(verdicts).await;
        finish!(pending, Settle, answer(&result, |all| each(all, |&settled| settled)));
        result
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        let (queue, consumer) = (self.queue.clone(), self.consumer);
        let call = Call::Extend { queue, consumer, receipts: receipts.to_vec(), answer: None };
        let pending = self.begin(call);
        let result = self.inner.extend(receipts).await;
        finish!(pending, Extend, answer(&result, |all| each(all, |&extended| extended)));
        result
    }

    async fn close(&self) -> Result<()> {
        let pending = self.begin(Call::EndConsumer { queue: self.queue.clone(), consumer: self.consumer });
        let result = self.inner.close().await;
        pending.finish(|_| ());
        result
    }
}

impl Drop for RecordedConsumer {
    fn drop(&mut self) {
        let call = Call::EndConsumer { queue: self.queue.clone(), consumer: self.consumer };
        self.recorder.note(self.client, call);
    }
}

/// Writes down what came, not that somebody reads: its reader waits for as long as it lives.
#[derive(Debug)]
struct RecordedInbox {
    inner: Box<dyn Inbox>,
    recorder: Arc<Recorder>,
    client: u64,
}

#[async_trait]
impl Inbox for RecordedInbox {
    fn address(&self) -> &ReplyAddress {
        self.inner.address()
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Message>> {
        let replies = self.inner.receive(wait).await?;
        if !replies.is_empty() {
            let came = replies.iter().map(|reply| reply.id().clone()).collect();
            self.recorder.note(self.client, Call::Replies { inbox: self.address().clone(), came });
        }
        Ok(replies)
    }
}
