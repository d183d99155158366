//! One client in one namespace: its line, the broker's side of it, and what it knows.

use std::sync::Arc;

use polyqueue::backend::EventSender;
use polyqueue::{Error, Event, Queue, QueueName, Result};

use crate::simulation::call::{Answer, Effect, Request, Wire, Work};
use crate::simulation::known::Known;

/// One client in one namespace. A clone is the same client.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// The broker's side.
    pub(crate) inner: Arc<dyn Queue>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) known: Arc<Known>,
    pub(crate) events: EventSender,
}

impl Session {
    pub(crate) fn new(inner: Arc<dyn Queue>, wire: Arc<Wire>, events: EventSender) -> Self {
        let known = Arc::new(Known::since(wire.line.world.now().wipes));
        Self { inner, wire, known, events }
    }

    /// One call; once more where the broker has lost what it is about, and it could be declared again.
    pub(crate) async fn call<A: Send + 'static>(
        &self,
        request: Request,
        bytes: fn(&A) -> u64,
        work: impl Fn(Arc<dyn Queue>) -> Work<A> + Send + Sync,
    ) -> Result<A> {
        let once = || self.wire.call(request, work(self.inner.clone()), Answer { bytes, unread: None });
        match once().await {
            Err(Error::NotFound(_)) if self.restore().await? => once().await,
            answer => answer,
        }
    }

    /// Declares again what the broker has lost; whether it had lost anything.
    pub(crate) async fn restore(&self) -> Result<bool> {
        let wipes = self.wipes();
        let Some(lost) = self.known.lost(wipes) else { return Ok(false) };
        if self.known.is_news(wipes) {
            self.events.send(Event::Wiped { detail: "the simulated broker has lost everything".into() });
        }
        let queues: Vec<QueueName> = lost.iter().map(|spec| spec.name.clone()).collect();
        for spec in lost {
            let inner = self.inner.clone();
            let work: Work<()> = Box::pin(async move { inner.declare(&spec).await });
            self.wire.call(Request::new("declare", Effect::Grows), work, Answer::default()).await?;
        }
        if self.known.restored(wipes) {
            queues.into_iter().for_each(|queue| self.events.send(Event::Redeclared { queue }));
        }
        Ok(true)
    }

    /// How often the broker has lost everything.
    pub(crate) fn wipes(&self) -> u64 {
        self.wire.line.world.now().wipes
    }

    /// Remembers how a queue was declared, for when it is lost.
    pub(crate) async fn learn(&self, queue: &QueueName) {
        if !self.known.knows(queue)
            && let Ok(specs) = self.inner.queues().await
        {
            specs.iter().filter(|spec| spec.name == *queue).for_each(|spec| self.known.learn(spec));
        }
    }
}
