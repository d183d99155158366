//! What holds on a proxy at the moment, and what has gone through it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::link::{Direction, Traffic};

/// What holds for all connections at the moment.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) close_new: bool,
    pub(super) delay: Duration,
    /// Bytes a second.
    pub(super) slow: Option<u64>,
    /// By [`Direction`].
    pub(super) swallow: [bool; 2],
    pub(super) ended: bool,
    /// How many cuts there were; a connection lives within one.
    pub(super) cuts: u64,
}

impl Rules {
    pub(super) fn heal(&mut self) {
        *self = Self { ended: self.ended, cuts: self.cuts, ..Self::default() };
    }
}

/// What the proxy and its thread both hold.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) rules: watch::Sender<Rules>,
    /// When each client was accepted.
    pub(super) attempts: Mutex<Vec<Instant>>,
    pub(super) open: AtomicU64,
    pub(super) passed: [AtomicU64; 2],
    /// Bytes that may still pass before everything is cut, by [`Direction`].
    allowance: Mutex<[Option<u64>; 2]>,
    /// Until when a slow line is taken, by [`Direction`].
    taken_until: Mutex<[Option<Instant>; 2]>,
}

impl Shared {
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.attempts.lock().len() as u64,
            open: self.open.load(Relaxed),
            to_broker: self.passed[Direction::ToBroker as usize].load(Relaxed),
            to_client: self.passed[Direction::ToClient as usize].load(Relaxed),
            cuts: self.rules.borrow().cuts,
        }
    }

    pub(super) fn cut(&self) {
        self.rules.send_modify(|rules| rules.cuts += 1);
    }

    pub(super) fn allow(&self, direction: Direction, bytes: Option<u64>) {
        self.allowance.lock()[direction as usize] = bytes;
        if bytes == Some(0) {
            self.spent(direction);
        }
    }

    /// How many of `wanted` bytes may pass; they count as passed.
    pub(super) fn take(&self, direction: Direction, wanted: usize) -> usize {
        match &mut self.allowance.lock()[direction as usize] {
            Some(left) => {
                let granted = wanted.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= granted as u64;
                granted
            }
            None => wanted,
        }
    }

    /// Cuts if the allowance of a direction is used up, once.
    pub(super) fn spent(&self, direction: Direction) {
        let used_up = {
            let mut allowance = self.allowance.lock();
            let used_up = allowance[direction as usize] == Some(0);
            if used_up {
                allowance[direction as usize] = None;
            }
            used_up
        };
        if used_up {
            self.cut();
        }
    }

    /// When so many bytes have gone over a line of this speed, behind those that are on it.
    pub(super) fn over_by(&self, direction: Direction, bytes: usize, speed: u64) -> Instant {
        let taken = &mut self.taken_until.lock()[direction as usize];
        let now = Instant::now();
        let start = taken.map_or(now, |until| until.max(now));
        let over = start + Duration::from_secs_f64(bytes as f64 / speed as f64);
        *taken = Some(over);
        over
    }
}
