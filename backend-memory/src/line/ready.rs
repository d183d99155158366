//! What could be handed out now: ten lanes, one a priority, each first in, first out.

use std::collections::VecDeque;

use polyqueue::Priority;

use super::item::Item;
use crate::clock::At;
use crate::mutants::{Bug, planted};

const LANES: usize = Priority::HIGHEST.get() as usize;

/// What could be handed out now.
#[derive(Debug, Default)]
pub(super) struct Ready {
    lanes: [VecDeque<Box<Item>>; LANES],
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
    pub(super) fn push(&mut self, item: Box<Item>) {
        self.len += 1;
        let lane = self.lane(&item);
        if planted(Bug::NewestFirst) {
            return lane.push_front(item);
        }
        lane.push_back(item);
    }

    /// Where it was before it was taken.
    pub(super) fn put_back(&mut self, item: Box<Item>) {
        self.len += 1;
        let lane = self.lane(&item);
        let place = lane.partition_point(|other| other.place < item.place);
        lane.insert(place, item);
    }

    /// The oldest of the highest priority.
    pub(super) fn pop(&mut self) -> Option<Box<Item>> {
        if planted(Bug::PriorityAsText) {
            let as_text = [9, 8, 7, 6, 5, 4, 3, 2, 10, 1];
            let item = as_text.into_iter().find_map(|level: usize| self.lanes[level - 1].pop_front());
            self.len -= usize::from(item.is_some());
            return item;
        }
        let item = self.lanes.iter_mut().rev().find_map(VecDeque::pop_front)?;
        self.len -= 1;
        Some(item)
    }

    /// The oldest of the lowest priority.
    pub(super) fn pop_least(&mut self) -> Option<Box<Item>> {
        let mut lanes = self.lanes.iter_mut();
        let lane = match planted(Bug::OverflowDropsHighest) {
            true => lanes.rfind(|lane| !lane.is_empty())?,
            false => lanes.find(|lane| !lane.is_empty())?,
        };
        let item = if planted(Bug::OverflowDropsNewest) { lane.pop_back() } else { lane.pop_front() };
        self.len -= usize::from(item.is_some());
        item
    }

    /// The one at this place of its priority.
    pub(super) fn remove(&mut self, priority: Priority, place: u64) -> Option<Box<Item>> {
        let lane = &mut self.lanes[lane_of(priority)];
        let at = lane.binary_search_by_key(&place, |item| item.place).ok()?;
        self.len -= 1;
        lane.remove(at)
    }

    /// Since when the oldest has been ready.
    pub(super) fn oldest(&self) -> Option<At> {
        self.lanes.iter().filter_map(|lane| Some(lane.front()?.ready_since)).min()
    }

    /// Everything, leaving nothing.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Item>> {
        std::mem::take(self).lanes.into_iter().flatten()
    }

    #[cfg(polyqueue_mutants)]
    pub(super) fn snatch(&mut self, wanted: impl Fn(&Item) -> bool) -> Option<Box<Item>> {
        let item = self.lanes.iter_mut().find_map(|lane| {
            let place = lane.iter().position(|item| wanted(item))?;
            lane.remove(place)
        })?;
        self.len -= 1;
        Some(item)
    }

    fn lane(&mut self, item: &Item) -> &mut VecDeque<Box<Item>> {
        &mut self.lanes[lane_of(item.message.priority())]
    }
}

fn lane_of(priority: Priority) -> usize {
    usize::from(priority.get()) - 1
}
