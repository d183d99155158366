//! A consumer over a line. Its place at the queue belongs to the client, not to a connection: receipts stay valid.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use polyqueue::{Consumer, Delivery, Error, Extended, Receipt, Result, Settled, Subscription, Verdict};
use tokio::time::Instant;

use crate::simulation::call::{Answer, Effect, Pauses, Request, Unread, Work};
use crate::simulation::session::Session;
use crate::simulation::size;

/// A consumer over a line.
pub(crate) struct LinkedConsumer {
    client: Session,
    subscription: Subscription,
    inner: Mutex<Arc<dyn Consumer>>,
    /// The wipes before it joined.
    wipes: AtomicU64,
}

impl LinkedConsumer {
    pub(crate) async fn join(client: Session, subscription: &Subscription) -> Result<Self> {
        let wipes = AtomicU64::new(client.wipes());
        let inner = Mutex::new(subscribed(&client, subscription).await?);
        Ok(Self { client, subscription: subscription.clone(), inner, wipes })
    }

    fn inner(&self) -> Arc<dyn Consumer> {
        self.inner.lock().clone()
    }

    /// Stands at the queue again where the broker has lost it and it could be declared again.
    async fn rejoin(&self) -> Result<bool> {
        let wipes = self.client.wipes();
        if self.wipes.load(SeqCst) == wipes {
            return Ok(false);
        }
        self.client.restore().await?;
        let inner = subscribed(&self.client, &self.subscription).await?;
        *self.inner.lock() = inner;
        self.wipes.store(wipes, SeqCst);
        Ok(true)
    }

    async fn receive_once(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let inner = self.inner();
        let receiving = inner.clone();
        let work: Work<_> = Box::pin(async move { receiving.receive(max, wait).await });
        let answer =
            Answer { bytes: |came: &Vec<Delivery>| size::of_deliveries(came), unread: Some(released(inner)) };
        let request = Request { wait, ..Request::new("receive", Effect::Changes) };
        self.client.wire.call(request, work, answer).await
    }
}

async fn subscribed(client: &Session, subscription: &Subscription) -> Result<Arc<dyn Consumer>> {
    let subscription = subscription.clone();
    let joined = client.call(
        Request::new("subscribe", Effect::Reads),
        |_| size::EMPTY,
        move |inner| {
            let subscription = subscription.clone();
            Box::pin(async move { inner.subscribe(&subscription).await })
        },
    );
    Ok(joined.await?.into())
}

/// What nobody got is given back, no attempt counted.
fn released(inner: Arc<dyn Consumer>) -> Unread<Vec<Delivery>> {
    Arc::new(move |came: Vec<Delivery>| {
        let inner = inner.clone();
        Box::pin(async move {
            let release = Verdict::Release { after: Duration::ZERO };
            let verdicts: Vec<_> = came.into_iter().map(|it| (it.receipt, release.clone())).collect();
            let _ = inner.settle(&verdicts).await;
        })
    })
}

#[async_trait]
impl Consumer for LinkedConsumer {
    /// Goes on over connections that end, as long as it may wait.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let end = Instant::now() + wait.min(Duration::from_secs(1 << 31));
        let (mut left, mut pauses) = (wait, Pauses::new());
        loop {
            match self.receive_once(max, left).await {
                Err(Error::NotFound(what)) => {
                    if !self.rejoin().await? {
                        return Err(Error::NotFound(what));
                    }
                }
                Err(error @ Error::Unavailable { .. }) if Instant::now() >= end => return Err(error),
                Err(Error::Unavailable { .. }) => pauses.pause(end).await,
                answer => return answer,
            }
            left = end.saturating_duration_since(Instant::now());
        }
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        let (inner, given) = (self.inner(), verdicts.to_vec());
        let work: Work<_> = Box::pin(async move { inner.settle(&given).await });
        let answer = Answer { bytes: |answers: &Vec<_>| size::of_items(answers.len()), unread: None };
        let request = Request::new("settle", Effect::Changes).of(size::of_items(verdicts.len()));
        self.client.wire.call(request, work, answer).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        let (inner, given) = (self.inner(), receipts.to_vec());
        let work: Work<_> = Box::pin(async move { inner.extend(&given).await });
        let answer = Answer { bytes: |answers: &Vec<_>| size::of_items(answers.len()), unread: None };
        let request = Request::new("extend", Effect::Changes).of(size::of_items(receipts.len()));
        self.client.wire.call(request, work, answer).await
    }

    async fn close(&self) -> Result<()> {
        self.inner().close().await
    }
}

impl fmt::Debug for LinkedConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkedConsumer").field("queue", &self.subscription.queue).finish_non_exhaustive()
    }
}
