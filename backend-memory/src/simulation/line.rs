//! One simulated line: what may pass over it at the moment, and what has passed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::simulation::world::{Condition, World};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

/// When a connection began: it lives as long as nothing was cut and the broker ended none since then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Born {
    cuts: u64,
    epoch: u64,
}

/// The connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// What holds on a line, until it is healed.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) refuse: bool,
    pub(crate) close_new: bool,
    pub(crate) delay: Duration,
    /// Bytes a second.
    pub(crate) slow: Option<u64>,
    /// By [`Direction`].
    pub(crate) swallow: [bool; 2],
    /// Bytes that may still pass before everything is cut, by [`Direction`].
    pub(crate) allowance: [Option<u64>; 2],
    /// Until when a slow line is taken, by [`Direction`].
    taken_until: [Option<Instant>; 2],
}

/// What a line has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) cuts: u64,
    pub(crate) passed: [u64; 2],
    pub(crate) attempts: Vec<Instant>,
    /// By client.
    connections: BTreeMap<u64, Born>,
    clients: u64,
}

/// One simulated line to the broker.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) world: Arc<World>,
    state: Mutex<(Rules, Seen)>,
}

impl Line {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, state: Mutex::default() }
    }

    /// Gives an order.
    pub(crate) fn order(&self, change: impl FnOnce(&mut Rules, &mut Seen)) {
        {
            let (rules, seen) = &mut *self.state.lock();
            change(rules, seen);
            cut_where_spent(rules, seen);
        }
        self.world.announce();
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Rules, &Seen) -> T) -> T {
        let (rules, seen) = &*self.state.lock();
        look(rules, seen)
    }

    pub(crate) fn next_client(&self) -> u64 {
        let clients = &mut self.state.lock().1.clients;
        *clients += 1;
        *clients
    }

    pub(crate) fn leave(&self, client: u64) {
        self.state.lock().1.connections.remove(&client);
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> u64 {
        let condition = self.world.now();
        self.look(|_, seen| {
            seen.connections.values().filter(|born| lives(seen, &condition, **born)).count() as u64
        })
    }

    pub(crate) fn lives(&self, condition: &Condition, born: Born) -> bool {
        self.look(|_, seen| lives(seen, condition, born))
    }

    /// Whether everything passes at once.
    pub(crate) fn is_clear(&self) -> bool {
        self.look(|rules, _| {
            let held_up = rules.swallow.contains(&true) || !rules.delay.is_zero() || rules.slow.is_some();
            !held_up && rules.allowance == [None; 2]
        })
    }

    /// Tries to connect, once; the connection that the client has, where it lives. And whether that took the place of another.
    pub(crate) fn connect(&self, client: u64) -> Option<(Born, bool)> {
        let condition = self.world.now();
        let (rules, seen) = &mut *self.state.lock();
        if let Some(born) = seen.connections.get(&client).copied()
            && lives(seen, &condition, born)
        {
            return Some((born, false));
        }
        if rules.refuse {
            return None;
        }
        seen.attempts.push(Instant::now());
        let born = Born { cuts: seen.cuts, epoch: condition.epoch };
        (condition.up && !rules.close_new).then(|| {
            let lost = seen.connections.insert(client, born);
            (born, lost.is_some())
        })
    }

    /// Waits until so many bytes of a connection have passed.
    ///
    /// # Errors
    /// `Ended` where it ends before the last of them.
    pub(crate) async fn pass(&self, born: Born, direction: Direction, bytes: u64) -> Result<(), Ended> {
        if let Some(over) = self.over_by(direction, bytes) {
            let healed = self.world.until(|condition| {
                let healed = self.look(|rules, _| rules.delay.is_zero() && rules.slow.is_none());
                (healed || !self.lives(condition, born)).then_some(())
            });
            tokio::select! {
                biased;
                () = healed => {}
                () = sleep_until(over) => {}
            }
        }
        self.world
            .until(|condition| {
                let ended = !self.lives(condition, born);
                let held = self.look(|rules, _| rules.swallow[direction as usize]);
                if ended { Some(Err(Ended)) } else { (!held).then_some(Ok(())) }
            })
            .await?;
        self.take(born, direction, bytes)
    }

    /// When so many bytes will have passed, where that takes time.
    fn over_by(&self, direction: Direction, bytes: u64) -> Option<Instant> {
        let (rules, _) = &mut *self.state.lock();
        if rules.delay.is_zero() && rules.slow.is_none() {
            return None;
        }
        let now = Instant::now();
        let taken = &mut rules.taken_until[direction as usize];
        let start = taken.map_or(now, |until| until.max(now));
        let over = match rules.slow {
            Some(speed) => start + Duration::from_secs_f64(bytes as f64 / speed as f64),
            None => now,
        };
        *taken = Some(over);
        Some(over + rules.delay)
    }

    fn take(&self, born: Born, direction: Direction, bytes: u64) -> Result<(), Ended> {
        let condition = self.world.now();
        let whole = {
            let (rules, seen) = &mut *self.state.lock();
            if !lives(seen, &condition, born) {
                return Err(Ended);
            }
            let granted = rules.allowance[direction as usize].map_or(bytes, |left| left.min(bytes));
            if let Some(left) = &mut rules.allowance[direction as usize] {
                *left -= granted;
            }
            seen.passed[direction as usize] += granted;
            cut_where_spent(rules, seen);
            granted == bytes
        };
        self.world.announce();
        if whole { Ok(()) } else { Err(Ended) }
    }
}

fn lives(seen: &Seen, condition: &Condition, born: Born) -> bool {
    seen.cuts == born.cuts && condition.epoch == born.epoch
}

/// Cuts, once, where the allowance of a direction is used up.
fn cut_where_spent(rules: &mut Rules, seen: &mut Seen) {
    for allowance in &mut rules.allowance {
        if *allowance == Some(0) {
            *allowance = None;
            seen.cuts += 1;
        }
    }
}
