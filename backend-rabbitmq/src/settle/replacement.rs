//! What takes one delivery's place, once: while nobody knows what became of it, no second one is published.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use polyqueue::{Certainty, Error, Result};
use tokio::sync::{Mutex, MutexGuard, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::connection::handle::Handle;
use crate::connection::publisher::lost;
use crate::connection::request::{Confirm, PublishRequest};

type Answer = oneshot::Receiver<Result<Confirm>>;

/// What stands in a delivery's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// This one.
    Now,
    /// An earlier one, of which nobody knew until now: this one was not published, and has no effect.
    Before,
}

/// The replacement of one delivery, of which it may be unknown whether the broker has it.
#[derive(Debug, Default)]
pub(crate) struct Replacement {
    under_way: Mutex<Option<Answer>>,
    /// An earlier one stands than the one that was asked for last.
    is_earlier: AtomicBool,
}

impl Replacement {
    /// Publishes it, and waits for the broker's answer. Where an earlier one is under way its answer counts: what is stored already
    /// is not stored again. `None` where there is no such queue.
    pub(crate) async fn store(
        &self,
        handle: &Handle,
        request: PublishRequest,
        by: Instant,
    ) -> Result<Option<Stored>> {
        let mut under_way = self.lock(handle, by).await?;
        if under_way.is_some()
            && let Ok(Confirm::Stored) = answer(&mut under_way, by).await.ok_or_else(|| late(handle))?
        {
            self.is_earlier.store(true, Relaxed);
            return Ok(Some(Stored::Before));
        }
        let publisher = handle.in_time("publish", by, handle.publisher()).await?;
        *under_way = Some(publisher.publish(request, by).await);
        confirmed(&mut under_way, handle, by).await
    }

    /// Publishes it where none is under way, and waits for no answer: [`begun`](Self::begun) does. Who begins several in turn has them
    /// stored in turn.
    pub(crate) async fn begin(&self, handle: &Handle, request: PublishRequest, by: Instant) -> Result<()> {
        let mut under_way = self.lock(handle, by).await?;
        if under_way.is_none() {
            let publisher = handle.in_time("publish", by, handle.publisher()).await?;
            *under_way = Some(publisher.publish(request, by).await);
        }
        Ok(())
    }

    /// The answer to what was begun. `None` where there is no such queue.
    pub(crate) async fn begun(&self, handle: &Handle, by: Instant) -> Result<Option<Stored>> {
        confirmed(&mut *self.lock(handle, by).await?, handle, by).await
    }

    async fn lock(&self, handle: &Handle, by: Instant) -> Result<MutexGuard<'_, Option<Answer>>> {
        timeout_at(by, self.under_way.lock()).await.map_err(|_| late(handle))
    }

    /// Whether an earlier one stands than the one that was asked for last.
    pub(crate) fn is_earlier(&self) -> bool {
        self.is_earlier.load(Relaxed)
    }
}

async fn confirmed(under_way: &mut Option<Answer>, handle: &Handle, by: Instant) -> Result<Option<Stored>> {
    Ok(match answer(under_way, by).await.ok_or_else(|| late(handle))?? {
        Confirm::Stored => Some(Stored::Now),
        Confirm::Unroutable => None,
    })
}

fn late(handle: &Handle) -> Error {
    Error::timeout("a message's replacement", handle.deadline, Certainty::Unknown)
}

/// The answer, which is then none that is awaited any more; `None` where it does not come by then.
async fn answer(under_way: &mut Option<Answer>, by: Instant) -> Option<Result<Confirm>> {
    let answered = timeout_at(by, under_way.as_mut()?).await.ok()?;
    *under_way = None;
    Some(answered.unwrap_or_else(|_| Err(lost())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_still_awaited() {
        let (sender, receiver) = oneshot::channel();
        let mut under_way = Some(receiver);
        let soon = || Instant::now() + Duration::from_secs(1);
        assert!(answer(&mut under_way, soon()).await.is_none());
        assert!(under_way.is_some());
        sender.send(Ok(Confirm::Stored)).unwrap();
        assert!(matches!(answer(&mut under_way, soon()).await, Some(Ok(Confirm::Stored))));
        assert!(under_way.is_none());
    }

    #[tokio::test]
    async fn an_answer_that_will_never_come_is_unknown() {
        let mut under_way = Some(oneshot::channel().1);
        let answered = answer(&mut under_way, Instant::now() + Duration::from_secs(1)).await;
        assert_eq!(answered.unwrap().unwrap_err().certainty(), Certainty::Unknown);
    }
}
