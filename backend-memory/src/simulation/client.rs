//! The contract over a line.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use polyqueue::{
    Admin, Consumer, DeadFilter, DeadId, DeadPage, Destination, Events, Health, Inbox, Info, Message,
    MessageId, Page, Pattern, Published, Purge, Queue, QueueName, QueueSpec, QueueStats, Reschedule, Result,
    Subscription,
};

use crate::address::NAME;
use crate::simulation::call::{Effect, Request};
use crate::simulation::consumer::LinkedConsumer;
use crate::simulation::inbox::LinkedInbox;
use crate::simulation::session::Session;
use crate::simulation::size;

/// Who asks for the health does not wait longer.
const HEALTH_WITHIN: Duration = Duration::from_secs(1);

/// A client of the simulated broker.
#[derive(Debug)]
pub(crate) struct LinkedQueue {
    session: Session,
    is_child: bool,
}

impl LinkedQueue {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, is_child: false }
    }
}

#[async_trait]
impl Queue for LinkedQueue {
    fn info(&self) -> Info {
        let mut info = Info::new(NAME);
        info.durable = true;
        info
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        let declared = spec.clone();
        self.session
            .call(
                Request::new("declare", Effect::Grows),
                |()| size::EMPTY,
                move |inner| {
                    let spec = declared.clone();
                    Box::pin(async move { inner.declare(&spec).await })
                },
            )
            .await?;
        self.session.known.learn(spec);
        Ok(())
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        if batch.is_empty() {
            return self.session.inner.publish(to, batch).await;
        }
        let request = Request::new("publish", Effect::Publishes).of(size::of_messages(&batch));
        let destination = to.clone();
        let answers = self
            .session
            .call(
                request,
                |answers: &Vec<_>| size::of_items(answers.len()),
                move |inner| {
                    let (to, batch) = (destination.clone(), batch.clone());
                    Box::pin(async move { inner.publish(&to, batch).await })
                },
            )
            .await?;
        if let Destination::Queue(queue) = to {
            self.session.learn(queue).await;
        }
        Ok(answers)
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        let (queue, id) = (queue.clone(), id.clone());
        self.session
            .call(
                Request::new("reschedule", Effect::Changes),
                |_| size::EMPTY,
                move |inner| {
                    let (queue, id) = (queue.clone(), id.clone());
                    Box::pin(async move { inner.reschedule(&queue, &id, to).await })
                },
            )
            .await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        let consumer = LinkedConsumer::join(self.session.clone(), subscription).await?;
        self.session.learn(&subscription.queue).await;
        Ok(Box::new(consumer))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        let inbox = self.session.call(
            Request::new("inbox", Effect::Grows),
            |_| size::EMPTY,
            |inner| Box::pin(async move { inner.inbox().await }),
        );
        Ok(Box::new(LinkedInbox::new(inbox.await?.into(), self.session.wire.clone())))
    }

    async fn health(&self) -> Health {
        let asked = self.session.call(
            Request::new("health", Effect::Reads),
            |_| size::EMPTY,
            |inner| Box::pin(async move { Ok(inner.health().await) }),
        );
        match tokio::time::timeout(HEALTH_WITHIN.min(self.session.wire.deadline), asked).await {
            Ok(Ok(health)) => match self.session.wire.blocked() {
                Some(why) if health.healthy => Health::bad(NAME, why),
                _ => health,
            },
            Ok(Err(error)) => Health::bad(NAME, error.to_string()),
            Err(_) => Health::bad(NAME, "no answer from the broker"),
        }
    }

    fn events(&self) -> Events {
        self.session.inner.events()
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        let Session { inner, wire, events, .. } = &self.session;
        let session = Session::new(inner.namespace(namespace)?, wire.clone(), events.child(namespace));
        Ok(Arc::new(Self { session, is_child: true }))
    }

    async fn close(&self) -> Result<()> {
        let closed = self.session.inner.close().await;
        if !self.is_child {
            self.session.wire.close();
        }
        closed
    }
}

#[async_trait]
impl Admin for LinkedQueue {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        self.session
            .call(
                Request::new("queues", Effect::Reads),
                |specs: &Vec<_>| size::of_items(specs.len()),
                |inner| Box::pin(async move { inner.queues().await }),
            )
            .await
    }

    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        let (name, bound) = (queue.clone(), pattern.clone());
        self.session
            .call(
                Request::new("unbind", Effect::Changes),
                |()| size::EMPTY,
                move |inner| {
                    let (queue, pattern) = (name.clone(), bound.clone());
                    Box::pin(async move { inner.unbind(&queue, &pattern).await })
                },
            )
            .await?;
        self.session.known.forget_binding(queue, pattern);
        Ok(())
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        let name = queue.clone();
        self.session
            .call(
                Request::new("delete", Effect::Changes),
                |()| size::EMPTY,
                move |inner| {
                    let queue = name.clone();
                    Box::pin(async move { inner.delete(&queue).await })
                },
            )
            .await?;
        self.session.known.forget(queue);
        Ok(())
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let queue = queue.clone();
        self.session
            .call(
                Request::new("stats", Effect::Reads),
                |_| size::EMPTY,
                move |inner| {
                    let queue = queue.clone();
                    Box::pin(async move { inner.stats(&queue).await })
                },
            )
            .await
    }

    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        let queue = queue.clone();
        self.session
            .call(
                Request::new("purge", Effect::Changes),
                |_| size::EMPTY,
                move |inner| {
                    let queue = queue.clone();
                    Box::pin(async move { inner.purge(&queue, what).await })
                },
            )
            .await
    }

    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage> {
        let (queue, filter) = (queue.clone(), filter.clone());
        self.session
            .call(
                Request::new("dead_letters", Effect::Reads),
                |_| size::EMPTY,
                move |inner| {
                    let (queue, filter, page) = (queue.clone(), filter.clone(), page.clone());
                    Box::pin(async move { inner.dead_letters(&queue, &filter, page).await })
                },
            )
            .await
    }

    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        let request = Request::new("redrive", Effect::Changes).of(size::of_items(ids.len()));
        let (queue, ids) = (queue.clone(), ids.to_vec());
        self.session
            .call(
                request,
                |answers: &Vec<_>| size::of_items(answers.len()),
                move |inner| {
                    let (queue, ids) = (queue.clone(), ids.clone());
                    Box::pin(async move { inner.redrive(&queue, &ids).await })
                },
            )
            .await
    }

    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        let request = Request::new("discard", Effect::Changes).of(size::of_items(ids.len()));
        let (queue, ids) = (queue.clone(), ids.to_vec());
        self.session
            .call(
                request,
                |answers: &Vec<_>| size::of_items(answers.len()),
                move |inner| {
                    let (queue, ids) = (queue.clone(), ids.clone());
                    Box::pin(async move { inner.discard(&queue, &ids).await })
                },
            )
            .await
    }
}
