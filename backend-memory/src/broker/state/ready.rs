//! What could be handed out now: ten levels, one a priority, each first in, first out.

use std::collections::VecDeque;

use polyqueue::Priority;

use super::stored::Stored;
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

const LEVELS: usize = Priority::HIGHEST.get() as usize;

/// What could be handed out now.
#[derive(Debug, Default)]
pub(super) struct Ready {
    levels: [VecDeque<Box<Stored>>; LEVELS],
    len: usize,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Behind all of its priority.
    pub(super) fn push(&mut self, item: Box<Stored>) {
        self.len += 1;
        let level = self.level(&item);
        if planted(Bug::NewestFirst) {
            return level.push_front(item);
        }
        level.push_back(item);
    }

    /// Where it was before it was taken.
    pub(super) fn put_back(&mut self, item: Box<Stored>) {
        self.len += 1;
        let level = self.level(&item);
        let place = level.partition_point(|other| other.place < item.place);
        level.insert(place, item);
    }

    /// The oldest of the highest priority.
    pub(super) fn pop(&mut self) -> Option<Box<Stored>> {
        if planted(Bug::PriorityAsText) {
            let as_text = [9, 8, 7, 6, 5, 4, 3, 2, 10, 1];
            let item = as_text.into_iter().find_map(|level: usize| self.levels[level - 1].pop_front());
            self.len -= usize::from(item.is_some());
            return item;
        }
        let item = self.levels.iter_mut().rev().find_map(VecDeque::pop_front)?;
        self.len -= 1;
        Some(item)
    }

    /// The oldest of the lowest priority.
    pub(super) fn pop_least(&mut self) -> Option<Box<Stored>> {
        let mut levels = self.levels.iter_mut();
        let level = match planted(Bug::OverflowDropsHighest) {
            true => levels.rfind(|level| !level.is_empty())?,
            false => levels.find(|level| !level.is_empty())?,
        };
        let item = if planted(Bug::OverflowDropsNewest) { level.pop_back() } else { level.pop_front() };
        self.len -= usize::from(item.is_some());
        item
    }

    /// The one at this place of its priority.
    pub(super) fn remove(&mut self, priority: Priority, place: u64) -> Option<Box<Stored>> {
        let level = &mut self.levels[level_of(priority)];
        let at = level.binary_search_by_key(&place, |item| item.place).ok()?;
        self.len -= 1;
        level.remove(at)
    }

    /// Since when the oldest has been ready.
    pub(super) fn oldest(&self) -> Option<At> {
        self.levels.iter().filter_map(|level| Some(level.front()?.ready_since)).min()
    }

    /// Everything, leaving nothing.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Stored>> {
        std::mem::take(self).levels.into_iter().flatten()
    }

    #[cfg(polyqueue_mutants)]
    pub(super) fn snatch(&mut self, wanted: impl Fn(&Stored) -> bool) -> Option<Box<Stored>> {
        let item = self.levels.iter_mut().find_map(|level| {
            let place = level.iter().position(|item| wanted(item))?;
            level.remove(place)
        })?;
        self.len -= 1;
        Some(item)
    }

    fn level(&mut self, item: &Stored) -> &mut VecDeque<Box<Stored>> {
        &mut self.levels[level_of(item.message.priority())]
    }
}

fn level_of(priority: Priority) -> usize {
    usize::from(priority.get()) - 1
}
