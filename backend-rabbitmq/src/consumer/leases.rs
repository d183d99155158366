//! What is out of the desk: each delivery until a verdict or the end of its lease.

use std::cmp::Reverse;
use std::sync::Arc;

use polyqueue::{Extended, Receipt, Result, Settled};
use tokio::time::Instant;

use super::desk::Desk;
use super::held::{Held, Item};
use super::receipt::Key;

/// What a verdict meets.
pub(super) enum Begun {
    /// The message, ours until the verdict is through.
    Yes(Key, Arc<Item>, Instant),
    /// Nothing to do.
    No(Settled),
}

impl Desk {
    /// Takes a message for a verdict.
    pub(super) fn begin(&self, receipt: &Receipt) -> Result<Begun> {
        let Some(key) = Key::read(receipt, &self.nonce)? else { return Ok(Begun::No(Settled::LeaseLost)) };
        let mut inner = self.inner.lock();
        let Some(held) = inner.held.get_mut(&key) else { return Ok(Begun::No(Settled::LeaseLost)) };
        Ok(match held {
            Held::Out { item, since, until } if *until > Instant::now() => {
                let begun = Begun::Yes(key, item.clone(), *since);
                *held = Held::Settling { item: item.clone(), since: *since, until: *until };
                begun
            }
            Held::Settling { .. } | Held::Settled { .. } => Begun::No(Settled::AlreadySettled),
            Held::Out { .. } | Held::Stocked(_) => Begun::No(Settled::LeaseLost),
        })
    }

    /// The verdict is through.
    pub(super) fn settled(&self, key: Key) {
        if let Some(held) = self.inner.lock().held.get_mut(&key)
            && let Held::Settling { until, .. } = held
        {
            *held = Held::Settled { until: *until };
        }
    }

    /// The verdict failed: it may be given again while the lease lasts.
    pub(super) fn reopen(&self, key: Key) {
        let mut inner = self.inner.lock();
        if let Some(held) = inner.held.get_mut(&key)
            && let Held::Settling { item, since, until } = held
        {
            let until = *until;
            *held = Held::Out { item: item.clone(), since: *since, until };
            inner.ends.push(Reverse((until, key)));
            drop(inner);
            self.bell.notify_one();
        }
    }

    /// A new full lease.
    pub(super) fn extend(&self, receipt: &Receipt) -> Result<Extended> {
        let Some(key) = Key::read(receipt, &self.nonce)? else { return Ok(Extended::LeaseLost) };
        let mut inner = self.inner.lock();
        let now = Instant::now();
        match inner.held.get_mut(&key) {
            Some(Held::Out { until, .. }) if *until > now => {
                *until = now + self.lease;
                let until = *until;
                inner.ends.push(Reverse((until, key)));
                Ok(Extended::Until(until))
            }
            _ => Ok(Extended::LeaseLost),
        }
    }

    /// When the next lease may end.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.inner.lock().ends.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes off up to `most` that nobody extended in time; forgets what was settled long ago.
    pub(super) fn ended(&self, most: usize) -> Vec<(Key, Arc<Item>)> {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        let mut ended = Vec::new();
        while ended.len() < most
            && let Some(Reverse((at, key))) = inner.ends.peek().copied()
            && at <= now
        {
            inner.ends.pop();
            match inner.held.get(&key) {
                Some(Held::Out { until, item, .. }) if *until <= at => {
                    ended.push((key, item.clone()));
                    inner.held.remove(&key);
                }
                Some(Held::Settled { until }) if *until <= at => {
                    inner.held.remove(&key);
                }
                _ => {}
            }
        }
        ended
    }
}
