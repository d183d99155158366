//! What could be handed out now: ten levels, one a priority, each first in, first out.

use std::collections::{BTreeMap, VecDeque};

use polyqueue::Priority;

use super::stored::Stored;
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

const LEVELS: usize = Priority::HIGHEST.get() as usize;

/// What could be handed out now.
#[derive(Debug, Default)]
pub(super) struct Ready {
    levels: [Level; LEVELS],
    len: usize,
}

/// One priority, in the order of the places. Only those with a time to live go from the middle, so they stand apart.
#[derive(Debug, Default)]
struct Level {
    lasting: VecDeque<Box<Stored>>,
    mortal: BTreeMap<u64, Box<Stored>>,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// At its place in its priority.
    pub(super) fn put(&mut self, item: Box<Stored>) {
        self.len += 1;
        self.levels[level_of(item.message.priority())].put(item);
    }

    /// The oldest of the highest priority.
    pub(super) fn pop(&mut self) -> Option<Box<Stored>> {
        if planted(Bug::PriorityAsText) {
            let as_text = [9, 8, 7, 6, 5, 4, 3, 2, 10, 1];
            let item = as_text.into_iter().find_map(|level: usize| self.levels[level - 1].pop_first());
            self.len -= usize::from(item.is_some());
            return item;
        }
        let newest = planted(Bug::NewestFirst);
        let take = if newest { Level::pop_last } else { Level::pop_first };
        let item = self.levels.iter_mut().rev().find_map(take)?;
        self.len -= 1;
        Some(item)
    }

    /// The oldest of the lowest priority.
    pub(super) fn pop_least(&mut self) -> Option<Box<Stored>> {
        let take = if planted(Bug::OverflowDropsNewest) { Level::pop_last } else { Level::pop_first };
        let mut levels = self.levels.iter_mut();
        let item = match planted(Bug::OverflowDropsHighest) {
            true => levels.rev().find_map(take)?,
            false => levels.find_map(take)?,
        };
        self.len -= 1;
        Some(item)
    }

    /// The one with a time to live at this place of its priority.
    pub(super) fn remove(&mut self, priority: Priority, place: u64) -> Option<Box<Stored>> {
        let item = self.levels[level_of(priority)].mortal.remove(&place)?;
        self.len -= 1;
        Some(item)
    }

    /// Since when the oldest has been ready.
    pub(super) fn oldest(&self) -> Option<At> {
        self.levels.iter().filter_map(|level| Some(level.first()?.ready_since)).min()
    }

    /// Everything, leaving nothing.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Stored>> + use<> {
        let levels = std::mem::take(self).levels;
        levels.into_iter().flat_map(|level| level.lasting.into_iter().chain(level.mortal.into_values()))
    }

    #[cfg(polyqueue_mutants)]
    pub(super) fn snatch(&mut self, wanted: impl Fn(&Stored) -> bool) -> Option<Box<Stored>> {
        let item = self.levels.iter_mut().find_map(|level| level.snatch(&wanted))?;
        self.len -= 1;
        Some(item)
    }
}

impl Level {
    fn put(&mut self, item: Box<Stored>) {
        if item.expires != At::NEVER {
            self.mortal.insert(item.place, item);
        } else if self.lasting.back().is_none_or(|last| last.place < item.place) {
            self.lasting.push_back(item);
        } else {
            let at = self.lasting.partition_point(|other| other.place < item.place);
            self.lasting.insert(at, item);
        }
    }

    fn first(&self) -> Option<&Stored> {
        let (lasting, mortal) = (self.lasting.front(), self.mortal.first_key_value());
        let first = lasting.into_iter().chain(mortal.map(|(_, item)| item)).min_by_key(|item| item.place);
        first.map(|item| &**item)
    }

    fn pop_first(&mut self) -> Option<Box<Stored>> {
        match (self.lasting.front(), self.mortal.first_key_value()) {
            (Some(lasting), Some((place, _))) if lasting.place < *place => self.lasting.pop_front(),
            (_, Some(_)) => self.mortal.pop_first().map(|(_, item)| item),
            (_, None) => self.lasting.pop_front(),
        }
    }

    /// Only bugs want the newest.
    fn pop_last(&mut self) -> Option<Box<Stored>> {
        match (self.lasting.back(), self.mortal.last_key_value()) {
            (Some(lasting), Some((place, _))) if lasting.place > *place => self.lasting.pop_back(),
            (_, Some(_)) => self.mortal.pop_last().map(|(_, item)| item),
            (_, None) => self.lasting.pop_back(),
        }
    }

    #[cfg(polyqueue_mutants)]
    fn snatch(&mut self, wanted: impl Fn(&Stored) -> bool) -> Option<Box<Stored>> {
        if let Some(at) = self.lasting.iter().position(|item| wanted(item)) {
            return self.lasting.remove(at);
        }
        let place = self.mortal.iter().find(|(_, item)| wanted(item)).map(|(place, _)| *place)?;
        self.mortal.remove(&place)
    }
}

fn level_of(priority: Priority) -> usize {
    usize::from(priority.get()) - 1
}
