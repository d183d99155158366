//! What all journals say together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::entry::{Entry, Told, What};
use super::life::{Given, Hold, Life, Sent};
use super::order::Watch;

/// What all journals say together.
pub(super) struct Ledger {
    pages: Mutex<Pages>,
    watch: Arc<Watch>,
}

/// Entries by message.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) lives: BTreeMap<String, Life>,
    pub(super) troubles: Vec<(Duration, String)>,
    /// Where each hand-out stands.
    holds: HashMap<u64, (String, usize)>,
    /// Queues out of which something has come.
    flowing: BTreeSet<usize>,
    outstanding: BTreeSet<String>,
}

impl Ledger {
    pub(super) fn new(watch: Arc<Watch>) -> Self {
        Self { pages: Mutex::default(), watch }
    }

    pub(super) fn note(&self, entry: Entry) {
        match &entry.what {
            What::Came(_) => self.watch.delivered.fetch_add(1, Relaxed),
            What::Published { told: Told::Stored, .. } => self.watch.published.fetch_add(1, Relaxed),
            _ => 0,
        };
        self.pages.lock().note(entry);
    }

    pub(super) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock()
    }
}

impl Pages {
    pub(super) fn note(&mut self, Entry { at, what }: Entry) {
        match what {
            What::Publishing { producer, id, queue, delay, task } => {
                self.lives.entry(id).or_default().sent = Some(Sent { producer, at, queue, delay, task });
            }
            What::Published { id, told } => {
                self.lives.entry(id.clone()).or_default().told = Some((at, told));
                self.look_again(&id);
            }
            What::Came(handout) => {
                self.flowing.insert(handout.queue);
                let id = handout.id.clone();
                let life = self.lives.entry(id.clone()).or_default();
                self.holds.insert(handout.hold, (id.clone(), life.holds.len()));
                life.buried = false;
                life.holds.push(Hold { came: at, handout, given: None });
                self.look_again(&id);
            }
            What::Settling { hold, word } => {
                self.give(hold, |given| *given = Some(Given { at, word, told: None }));
            }
            What::Settled { hold, told } => self.give(hold, |given| {
                if let Some(given) = given {
                    given.told = Some((at, told));
                }
            }),
            What::Redriving { id } => {
                let life = self.lives.entry(id.clone()).or_default();
                life.redrives.push(at);
                life.buried = false;
                self.look_again(&id);
            }
            What::Trouble { error } => self.troubles.push((at, error)),
        }
    }

    fn give(&mut self, hold: u64, change: impl FnOnce(&mut Option<Given>)) {
        let Some((id, nth)) = self.holds.get(&hold).cloned() else { return };
        if let Some(hold) = self.lives.get_mut(&id).and_then(|life| life.holds.get_mut(nth)) {
            change(&mut hold.given);
        }
        self.look_again(&id);
    }

    /// It lies among the dead letters.
    pub(super) fn bury(&mut self, id: &str) {
        self.lives.entry(id.to_owned()).or_default().buried = true;
        self.look_again(id);
    }

    fn look_again(&mut self, id: &str) {
        match self.lives.get(id).is_some_and(Life::is_outstanding) {
            true => self.outstanding.insert(id.to_owned()),
            false => self.outstanding.remove(id),
        };
    }

    /// Stored ones that must still come to their end.
    pub(super) fn outstanding(&self) -> &BTreeSet<String> {
        &self.outstanding
    }

    /// Out of how many queues something has come.
    pub(super) fn flowing(&self) -> usize {
        self.flowing.len()
    }
}
