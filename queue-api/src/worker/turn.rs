//! Turns: how many of one handler run at a time, and where the rest waits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The turns of one handler.
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    pub(super) fn new(at_a_time: usize) -> Self {
        Self(semaphore(at_a_time))
    }

    /// A turn now, or a place to wait for one; `None` when there is neither.
    pub(super) fn turn(&self, waiting_room: &WaitingRoom) -> Option<Turn> {
        if let Ok(permit) = self.0.clone().try_acquire_owned() {
            return Some(Turn::Now(Some(permit)));
        }
        let place = waiting_room.places.clone().try_acquire_owned().ok()?;
        Some(Turn::Later { turns: self.0.clone(), place, closed: waiting_room.closed.clone() })
    }
}

/// Where the jobs of one queue wait for their turns, until the worker stops.
pub(super) struct WaitingRoom {
    places: Arc<Semaphore>,
    closed: CancellationToken,
}

impl WaitingRoom {
    pub(super) fn new(places: usize) -> Self {
        Self { places: semaphore(places), closed: CancellationToken::new() }
    }

    /// Nobody's turn comes any more.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }
}

/// One job's turn; it lasts until the permit is dropped.
pub(super) enum Turn {
    Now(Option<OwnedSemaphorePermit>),
    Later { turns: Arc<Semaphore>, place: OwnedSemaphorePermit, closed: CancellationToken },
}

impl Turn {
    /// `Err` when the waiting room was closed before.
    pub(super) async fn come(self) -> Result<Option<OwnedSemaphorePermit>, ()> {
        match self {
            Self::Now(permit) => Ok(permit),
            Self::Later { turns, place, closed } => tokio::select! {
                biased;
                () = closed.cancelled() => Err(()),
                permit = turns.acquire_owned() => {
                    drop(place);
                    permit.map(Some).map_err(drop)
                }
            },
        }
    }
}

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}
