//! Turns: how many of one handler run at a time, and where the rest waits.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use super::release_rate::ReleaseRate;

/// The turns of one handler.
#[derive(Clone)]
pub(super) struct Turns {
    at_a_time: usize,
    permits: Arc<Semaphore>,
    pace: Arc<Mutex<Pace>>,
}

impl Turns {
    pub(super) fn new(at_a_time: usize) -> Self {
        let pace = Pace::new(at_a_time, Instant::now());
        Self { at_a_time, permits: semaphore(at_a_time), pace: Arc::new(Mutex::new(pace)) }
    }

    pub(super) fn at_a_time(&self) -> usize {
        self.at_a_time
    }

    /// A turn now, or a place to wait for one where `free` slots allow it; where there is neither, how long to give the
    /// message back for.
    pub(super) fn turn(&self, backlog: &Backlog, free: impl FnOnce() -> usize) -> Result<Turn, Duration> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(Turn::Now(self.begin(permit)));
        }
        match backlog.place(free()) {
            Some(place) => Ok(Turn::Later { turns: self.clone(), place, closed: backlog.closed.clone() }),
            None => {
                let now = Instant::now();
                backlog.releases.lock().released(now);
                Err(self.pace.lock().wait(now))
            }
        }
    }

    fn begin(&self, permit: OwnedSemaphorePermit) -> Running {
        let began = Instant::now();
        self.pace.lock().began(began);
        Running { _permit: permit, began, pace: self.pace.clone() }
    }
}

/// The jobs of one queue that wait for their turns, until the worker stops.
pub(super) struct Backlog {
    places: Arc<Semaphore>,
    closed: CancellationToken,
    /// Of what found no place.
    releases: Mutex<ReleaseRate>,
}

impl Backlog {
    /// For a queue with so many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            places: semaphore((slots / 4).max(1)),
            closed: CancellationToken::new(),
            releases: Mutex::new(ReleaseRate::new(Instant::now())),
        }
    }

    /// Nobody's turn comes any more.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Until when nothing is to be fetched, because too much was given back.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.releases.lock().paused_until(Instant::now())
    }

    /// The last free slot is for what need not wait.
    fn place(&self, free: usize) -> Option<OwnedSemaphorePermit> {
        (free > 1).then(|| self.places.clone().try_acquire_owned().ok()).flatten()
    }
}

/// One job's turn.
pub(super) enum Turn {
    Unbounded,
    Now(Running),
    Later { turns: Turns, place: OwnedSemaphorePermit, closed: CancellationToken },
}

impl Turn {
    /// `Err` when the backlog was closed before; the turn lasts until what it answers is dropped.
    pub(super) async fn come(self) -> Result<Option<Running>, ()> {
        match self {
            Self::Unbounded => Ok(None),
            Self::Now(running) => Ok(Some(running)),
            Self::Later { turns, place, closed } => tokio::select! {
                biased;
                () = closed.cancelled() => Err(()),
                permit = turns.permits.clone().acquire_owned() => {
                    drop(place);
                    permit.map(|permit| Some(turns.begin(permit))).map_err(drop)
                }
            },
        }
    }
}

/// A handler that runs; its end is told to its pace.
pub(super) struct Running {
    _permit: OwnedSemaphorePermit,
    began: Instant,
    pace: Arc<Mutex<Pace>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let now = Instant::now();
        self.pace.lock().ended(now - self.began, now);
    }
}

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}
