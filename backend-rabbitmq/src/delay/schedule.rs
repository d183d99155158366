//! Which slots are to be read: those of the cells that are open, and for a moment those in which something may be overdue.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::delay::slots::{LEVELS, Slot, open, width};

/// How long a slot is read in which nothing overdue is found.
const LOOK: i64 = 300;
/// How many slots are looked at at a time.
const LOOKS: usize = 12;
/// How often one slot of a higher level is looked at, in turn.
const ROUND: i64 = 1_000;
/// How long a slot that could not be read is looked for.
const MISSED: i64 = 30_000;
/// How long a slot that could not be read is left alone.
const PAUSE: i64 = 500;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Read it; narrowly where something is only looked for.
    Read {
        slot: Slot,
        narrow: bool,
    },
    Stop(Slot),
    /// Ask whether these are there.
    Ask(Vec<Slot>),
}

/// What is read.
pub(crate) struct Schedule {
    /// The slots that are there.
    there: BTreeSet<Slot>,
    reading: HashMap<Slot, Reader>,
    looks: VecDeque<Slot>,
    /// When the open slots of a level were asked for that were not there.
    asked: [i64; LEVELS],
    /// Slots that could not be read, until when they are left alone.
    paused: HashMap<Slot, i64>,
    /// The same, until when they are looked for: just after a start of the broker a queue may not be there yet.
    missed: HashMap<Slot, i64>,
    /// Which slot is looked at next in turn, and when.
    round: (Option<Slot>, i64),
}

struct Reader {
    narrow: bool,
    /// When something overdue came last, or all that lay there for it had come.
    busy: i64,
    /// A little of what lay there has come, or nothing lay there.
    has_begun: bool,
    is_stopping: bool,
    /// How many messages that it was right to take are in hand: more may lie behind them.
    in_hand: usize,
}

impl Schedule {
    /// One that looks everywhere first.
    pub(crate) fn new() -> Self {
        let (reading, paused, missed) = Default::default();
        let mut new = Self {
            there: Slot::all(0..1).collect(),
            reading,
            looks: VecDeque::new(),
            asked: [i64::MIN; LEVELS],
            paused,
            missed,
            round: (None, 0),
        };
        new.looks.extend(new.there.iter().copied());
        new
    }

    /// What is to be done now.
    pub(crate) fn step(&mut self, now: i64) -> Vec<Order> {
        let mut orders = Vec::new();
        self.paused.retain(|_, until| *until > now);
        self.look_for_missed(now);
        let open: BTreeSet<Slot> = open(now).into_iter().map(|cell| cell.slot()).collect();
        for slot in &open {
            self.read(*slot, false, now, &mut orders);
        }
        self.ask(&open, now, &mut orders);
        self.go_round(now);
        let mut looking = 0;
        for (slot, reader) in &mut self.reading {
            let is_open = open.contains(slot);
            if reader.is_stopping || is_open && !reader.narrow {
                continue;
            }
            if is_open || reader.has_begun && reader.in_hand == 0 && now - reader.busy >= LOOK {
                reader.is_stopping = true;
                orders.push(Order::Stop(*slot));
            } else {
                looking += 1;
            }
        }
        while looking < LOOKS
            && let Some(slot) = self.looks.pop_front()
        {
            looking += 1;
            self.read(slot, true, now, &mut orders);
        }
        orders
    }

    fn read(&mut self, slot: Slot, narrow: bool, now: i64, orders: &mut Vec<Order>) {
        if self.there.contains(&slot) && !self.reading.contains_key(&slot) && !self.paused.contains_key(&slot)
        {
            self.reading
                .insert(slot, Reader { narrow, busy: now, has_begun: false, is_stopping: false, in_hand: 0 });
            orders.push(Order::Read { slot, narrow });
        }
    }

    /// Asks for open slots that were not there: all higher ones at first.
    fn ask(&mut self, open: &BTreeSet<Slot>, now: i64, orders: &mut Vec<Order>) {
        if self.asked[0] == i64::MIN {
            self.asked = [now; LEVELS];
            orders.push(Order::Ask(Slot::all(1..LEVELS).collect()));
            return;
        }
        let mut asked = Vec::new();
        for level in 1..LEVELS {
            if now - self.asked[level] >= width(level - 1).min(60_000) {
                self.asked[level] = now;
                let absent = |slot: &&Slot| slot.level == level && !self.there.contains(slot);
                asked.extend(open.iter().filter(absent));
            }
        }
        if now - self.asked[0] >= ROUND {
            self.asked[0] = now;
            asked.extend(self.missed.keys().filter(|slot| !self.there.contains(slot)));
        }
        if !asked.is_empty() {
            orders.push(Order::Ask(asked));
        }
    }

    /// Looks once more at those that could not be read, when they can be.
    fn look_for_missed(&mut self, now: i64) {
        self.missed.retain(|_, until| *until > now);
        let can_be_read = |slot: &&Slot| {
            self.there.contains(slot) && !self.paused.contains_key(slot) && !self.reading.contains_key(slot)
        };
        let back: Vec<Slot> = self.missed.keys().filter(can_be_read).copied().collect();
        for slot in back {
            self.missed.remove(&slot);
            self.look(slot);
        }
    }

    /// Looks at the slots of the higher levels in turn: what came there long after it was stamped is not to wait for the next round.
    fn go_round(&mut self, now: i64) {
        let (last, at) = self.round;
        if now < at {
            return;
        }
        let after = |slot: &&Slot| slot.level > 0 && last.is_none_or(|last| **slot > last);
        let next = self.there.iter().find(after).copied();
        self.round = (next, now + ROUND);
        if let Some(next) = next {
            self.look(next);
        }
    }

    /// Something may be overdue there.
    pub(crate) fn look(&mut self, slot: Slot) {
        if !self.looks.contains(&slot) {
            self.looks.push_back(slot);
        }
    }

    /// These are there: what lies in them may be overdue.
    pub(crate) fn found(&mut self, slots: impl IntoIterator<Item = Slot>) {
        for slot in slots {
            if self.there.insert(slot) {
                self.look(slot);
            }
        }
    }

    /// The broker has answered for this slot: what it had to send at first, it has sent. A broker that has just started takes a while.
    pub(crate) fn begun(&mut self, slot: Slot, now: i64) {
        if let Some(reader) = self.reading.get_mut(&slot) {
            reader.has_begun = true;
            reader.busy = now;
        }
    }

    /// Something came that is due soon, or was due.
    pub(crate) fn busy(&mut self, slot: Slot, now: i64) {
        if let Some(reader) = self.reading.get_mut(&slot) {
            reader.busy = now;
            reader.in_hand += 1;
        }
    }

    /// One of these has left.
    pub(crate) fn left(&mut self, slot: Slot, now: i64) {
        if let Some(reader) = self.reading.get_mut(&slot) {
            reader.busy = now;
            reader.in_hand = reader.in_hand.saturating_sub(1);
        }
    }

    /// Whether this slot is read.
    pub(crate) fn is_read(&self, slot: Slot) -> bool {
        self.reading.get(&slot).is_some_and(|reader| !reader.is_stopping)
    }

    /// A reader has ended; one that failed is not begun again at once.
    pub(crate) fn ended(&mut self, slot: Slot, failed: bool, now: i64) {
        self.reading.remove(&slot);
        if failed {
            self.paused.insert(slot, now + PAUSE);
            self.missed.insert(slot, now + MISSED);
            if slot.level > 0 {
                self.there.remove(&slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_500;

    fn reads(orders: &[Order]) -> BTreeSet<Slot> {
        orders
            .iter()
            .filter_map(|order| if let Order::Read { slot, .. } = order { Some(*slot) } else { None })
            .collect()
    }

    #[test]
    fn at_first_everything_is_looked_at_and_all_higher_slots_are_asked_for() {
        let mut schedule = Schedule::new();
        let mut read = BTreeSet::new();
        let first = schedule.step(NOW);
        assert!(first.contains(&Order::Ask(Slot::all(1..LEVELS).collect())));
        read.extend(reads(&first));
        reads(&first).into_iter().for_each(|slot| schedule.begun(slot, NOW));
        let far = Slot { level: 3, index: 9 };
        schedule.found([far]);
        for nth in 1..10 {
            let orders = schedule.step(NOW + nth * 100);
            read.extend(reads(&orders));
            for order in orders {
                match order {
                    Order::Read { slot, .. } => schedule.begun(slot, NOW),
                    Order::Stop(slot) => schedule.ended(slot, false, NOW),
                    Order::Ask(_) => {}
                }
            }
        }
        assert!(Slot::all(0..1).chain([far]).all(|slot| read.contains(&slot)), "{read:?}");
    }

    #[test]
    fn an_open_slot_is_read_and_then_left() {
        let mut schedule = Schedule::new();
        let now = open(NOW).iter().map(|cell| cell.slot()).find(|slot| slot.level == 0).unwrap();
        assert!(reads(&schedule.step(NOW)).contains(&now));
        schedule.begun(now, NOW + 10);
        schedule.looks.clear();
        schedule.busy(now, NOW + 800);
        assert!(!schedule.step(NOW + 2_400).contains(&Order::Stop(now)), "it is in hand");
        schedule.left(now, NOW + 2_450);
        assert!(!schedule.step(NOW + 2_500).contains(&Order::Stop(now)), "more may come");
        assert!(schedule.step(NOW + 2_800).contains(&Order::Stop(now)));
        schedule.ended(now, false, NOW + 2_500);
        assert!(!schedule.is_read(now));
    }

    #[test]
    fn a_slot_that_is_gone_is_asked_for_again() {
        let mut schedule = Schedule::new();
        drop(schedule.step(NOW));
        let slot = open(NOW).iter().map(|cell| cell.slot()).rfind(|slot| slot.level == 1).unwrap();
        schedule.found([slot]);
        assert!(reads(&schedule.step(NOW + 10)).contains(&slot));
        schedule.ended(slot, true, NOW + 20);
        let asks = |orders: Vec<Order>| {
            orders.iter().any(|order| matches!(order, Order::Ask(all) if all.contains(&slot)))
        };
        assert!(!asks(schedule.step(NOW + 30)));
        assert!(asks(schedule.step(NOW + 1_100)));
    }

    #[test]
    fn a_slot_that_could_not_be_read_is_looked_at_again() {
        let mut schedule = Schedule::new();
        schedule.looks.clear();
        drop(schedule.step(NOW));
        let slot = Cell15::slot(NOW);
        schedule.look(slot);
        assert!(reads(&schedule.step(NOW + 1)).contains(&slot));
        schedule.ended(slot, true, NOW + 2);
        assert!(!reads(&schedule.step(NOW + 3)).contains(&slot));
        assert!(reads(&schedule.step(NOW + 3 + PAUSE)).contains(&slot));
    }

    #[test]
    fn a_hint_is_followed_once() {
        let mut schedule = Schedule::new();
        schedule.looks.clear();
        drop(schedule.step(NOW));
        let slot = Cell15::slot(NOW);
        schedule.look(slot);
        schedule.look(slot);
        assert_eq!(reads(&schedule.step(NOW + 1)), BTreeSet::from([slot]));
        assert!(!schedule.step(NOW + 2 + LOOK).contains(&Order::Stop(slot)), "the broker has not answered");
        schedule.begun(slot, NOW + 3 + LOOK);
        assert!(!schedule.step(NOW + 4 + LOOK).contains(&Order::Stop(slot)));
        assert!(schedule.step(NOW + 4 + 2 * LOOK).contains(&Order::Stop(slot)));
    }

    struct Cell15;

    impl Cell15 {
        /// A slot that is not open.
        fn slot(now: i64) -> Slot {
            crate::delay::slots::Cell::of(now + 8_000, now, 15).slot()
        }
    }
}
