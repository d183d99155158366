//! What a consumer has handed out, until a verdict or the end of its lease.
//!
//! Only what is out is in it. A receipt says when its first lease ends, so that a hand-out that is missing here while that end is
//! ahead was settled; what was extended ends later than its receipt says, and what was lost with its connection is not settled:
//! these two are remembered until they would have ended.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Extended;

/// What is out, by the key that its receipt names.
#[derive(Debug)]
pub struct LeaseTable<K, T> {
    prefetch: usize,
    leases: Mutex<Leases<K, T>>,
    changed: Notify,
}

/// What a verdict meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin<T> {
    /// The message, ours until the verdict is through, and when it was handed out.
    Ours(T, Instant),
    /// An earlier verdict is under way or took effect.
    AlreadySettled,
    /// The lease has ended.
    LeaseLost,
}

#[derive(Debug)]
struct Leases<K, T> {
    leases: HashMap<K, Lease<T>>,
    /// When each ends. The number tells apart what ends at once.
    ends: BTreeMap<(Instant, u64), K>,
    handed_out: u64,
}

#[derive(Debug)]
struct Lease<T> {
    state: State,
    /// While it is in hand.
    message: Option<T>,
    number: u64,
    handed: Instant,
    until: Instant,
    extended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Out,
    /// A verdict is under way.
    Settling,
    /// Settled, with another end than its receipt says.
    Settled,
    Lost,
}

impl<K: Clone + Eq + Hash, T> LeaseTable<K, T> {
    /// Nothing is out. `prefetch`: how much may be, 0 for as much as is asked for.
    pub fn new(prefetch: usize) -> Self {
        let leases = Leases { leases: HashMap::new(), ends: BTreeMap::new(), handed_out: 0 };
        Self { prefetch, leases: Mutex::new(leases), changed: Notify::new() }
    }

    /// Messages go into somebody's hands, each until its lease ends.
    pub fn hand_out(&self, handed: Instant, messages: impl IntoIterator<Item = (K, T, Instant)>) {
        let mut leases = self.leases.lock();
        let before = leases.next_end();
        for (key, message, until) in messages {
            leases.add(key, State::Out, Some(message), handed, until);
        }
        if leases.next_end() != before {
            self.changed.notify_one();
        }
    }

    /// Takes a message for a verdict; `first_end` is what its receipt says.
    pub fn begin(&self, key: &K, first_end: Instant) -> Begin<T>
    where
        T: Clone,
    {
        let (mut leases, now) = (self.leases.lock(), Instant::now());
        let Some(lease) = leases.leases.get_mut(key) else {
            return if first_end > now { Begin::AlreadySettled } else { Begin::LeaseLost };
        };
        match (lease.state, &lease.message) {
            (State::Settling, _) => Begin::AlreadySettled,
            (State::Settled, _) if lease.until > now => Begin::AlreadySettled,
            (State::Out, Some(message)) if lease.until > now => {
                lease.state = State::Settling;
                Begin::Ours(message.clone(), lease.handed)
            }
            _ => Begin::LeaseLost,
        }
    }

    /// It is out no longer: a verdict is through, or nobody took it.
    pub fn finish(&self, key: &K) {
        let mut leases = self.leases.lock();
        let Some(lease) = leases.leases.get_mut(key).filter(|lease| lease.is_in_hand()) else { return };
        lease.end_as(State::Settled);
        if !lease.extended || lease.until <= Instant::now() {
            leases.remove(key);
        }
        if self.prefetch > 0 {
            self.changed.notify_one();
        }
    }

    /// The verdict failed: it may be given again while the lease lasts.
    pub fn reopen(&self, key: &K) {
        let mut leases = self.leases.lock();
        let Leases { leases, ends, .. } = &mut *leases;
        if let Some(lease) = leases.get_mut(key).filter(|lease| lease.state == State::Settling) {
            lease.state = State::Out;
            ends.insert((lease.until, lease.number), key.clone());
            self.changed.notify_one();
        }
    }

    /// Its lease ends at another time.
    pub fn extend(&self, key: &K, until: Instant) -> Extended {
        let mut leases = self.leases.lock();
        let is_out = |lease: &&Lease<T>| lease.state == State::Out && lease.until > Instant::now();
        match leases.leases.get(key).filter(is_out) {
            Some(_) => {
                leases.set_end(key, until);
                Extended::Until(until)
            }
            None => Extended::LeaseLost,
        }
    }

    /// The broker, which keeps the leases itself, has said that this one ends at another time than its receipt says.
    pub fn set_end(&self, key: &K, until: Instant) {
        let mut leases = self.leases.lock();
        if !leases.set_end(key, until) {
            leases.add(key.clone(), State::Settled, None, Instant::now(), until);
        }
    }

    /// When its lease ends; `None` where its receipt knows better.
    pub fn until(&self, key: &K) -> Option<Instant> {
        self.leases.lock().leases.get(key).map(|lease| lease.until)
    }

    /// When to ask next what has [`ended`](Self::ended).
    pub fn next_end(&self) -> Option<Instant> {
        self.leases.lock().next_end()
    }

    /// Takes off up to `max` whose leases have ended. Also what is remembered is forgotten here: who keeps no time asks now
    /// and then.
    pub fn ended(&self, max: usize) -> Vec<(K, T)> {
        let (mut leases, now) = (self.leases.lock(), Instant::now());
        let mut ended = Vec::new();
        while ended.len() < max
            && let Some(end) = leases.ends.first_entry()
            && end.key().0 <= now
        {
            let key = end.remove();
            if leases.leases.get(&key).is_some_and(|lease| lease.state != State::Settling) {
                let message = leases.leases.remove(&key).and_then(|lease| lease.message);
                ended.extend(message.map(|message| (key, message)));
            }
        }
        ended
    }

    /// These are lost, with the connection that they came by.
    pub fn lose(&self, mut is_lost: impl FnMut(&K) -> bool) {
        let mut leases = self.leases.lock();
        for (key, lease) in &mut leases.leases {
            if lease.is_in_hand() && is_lost(key) {
                lease.end_as(State::Lost);
            }
        }
        self.changed.notify_one();
    }

    /// How many more messages may be handed out. What is in hand counts until its lease ends.
    pub fn capacity(&self) -> usize {
        if self.prefetch == 0 {
            return usize::MAX;
        }
        let (leases, now) = (self.leases.lock(), Instant::now());
        let in_hand = leases.leases.values().filter(|lease| lease.is_in_hand() && lease.until > now);
        self.prefetch.saturating_sub(in_hand.count())
    }

    /// Ends when a lease may end sooner than was said, or when there may be more capacity; also when that was before the call.
    /// For one task at a time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl<K: Clone + Eq + Hash, T> Leases<K, T> {
    fn add(&mut self, key: K, state: State, message: Option<T>, handed: Instant, until: Instant) {
        self.remove(&key);
        self.handed_out += 1;
        let number = self.handed_out;
        self.ends.insert((until, number), key.clone());
        self.leases.insert(key, Lease { state, message, number, handed, until, extended: false });
    }

    fn remove(&mut self, key: &K) {
        if let Some(lease) = self.leases.remove(key) {
            self.ends.remove(&(lease.until, lease.number));
        }
    }

    /// Whether it knows it.
    fn set_end(&mut self, key: &K, until: Instant) -> bool {
        let Some(lease) = self.leases.get_mut(key) else { return false };
        self.ends.remove(&(lease.until, lease.number));
        self.ends.insert((until, lease.number), key.clone());
        (lease.until, lease.extended) = (until, true);
        true
    }

    fn next_end(&self) -> Option<Instant> {
        self.ends.first_key_value().map(|((until, _), _)| *until)
    }
}

impl<T> Lease<T> {
    fn is_in_hand(&self) -> bool {
        matches!(self.state, State::Out | State::Settling)
    }

    fn end_as(&mut self, state: State) {
        (self.state, self.message) = (state, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::time::Duration;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    /// Messages 1 to `count`, each leased for a second.
    fn table(prefetch: usize, count: u32) -> (LeaseTable<u32, u32>, Instant) {
        let (table, now) = (LeaseTable::new(prefetch), Instant::now());
        table.hand_out(now, (1..=count).map(|key| (key, 10 * key, now + SECOND)));
        (table, now)
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_verdict_learns_of_the_first() {
        let (table, now) = table(0, 2);
        assert_eq!(table.begin(&1, now + SECOND), Begin::Ours(10, now));
        assert_eq!(table.begin(&1, now + SECOND), Begin::AlreadySettled);
        table.finish(&1);
        assert_eq!(table.begin(&1, now + SECOND), Begin::AlreadySettled);
        advance(SECOND).await;
        assert_eq!(table.begin(&1, now + SECOND), Begin::LeaseLost);
        assert_eq!(table.begin(&2, now + SECOND), Begin::LeaseLost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_that_failed_may_be_given_again_while_the_lease_lasts() {
        let (table, now) = table(0, 1);
        assert_eq!(table.begin(&1, now + SECOND), Begin::Ours(10, now));
        table.reopen(&1);
        assert_eq!(table.next_end(), Some(now + SECOND));
        assert_eq!(table.begin(&1, now + SECOND), Begin::Ours(10, now));
        advance(SECOND).await;
        assert_eq!(table.ended(9), []);
        table.reopen(&1);
        assert_eq!(table.begin(&1, now + SECOND), Begin::LeaseLost);
        assert_eq!(table.ended(9), [(1, 10)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_extended_lease_is_settled_beyond_what_its_receipt_says() {
        let (table, now) = table(0, 2);
        assert_eq!(table.extend(&1, now + 3 * SECOND), Extended::Until(now + 3 * SECOND));
        advance(2 * SECOND).await;
        assert_eq!(table.extend(&2, now + 3 * SECOND), Extended::LeaseLost);
        assert_eq!(table.ended(9), [(2, 20)]);
        assert_eq!(table.begin(&1, now + SECOND), Begin::Ours(10, now));
        assert_eq!(table.extend(&1, now + 9 * SECOND), Extended::LeaseLost);
        table.finish(&1);
        assert_eq!(table.begin(&1, now + SECOND), Begin::AlreadySettled);
        assert_eq!(table.until(&1), Some(now + 3 * SECOND));
        advance(SECOND).await;
        assert_eq!(table.begin(&1, now + SECOND), Begin::LeaseLost);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_the_broker_said_is_known_whether_it_is_out_or_not() {
        let (table, now) = table(2, 1);
        for end in [2 * SECOND, 3 * SECOND] {
            table.set_end(&1, now + end);
            table.set_end(&7, now + end);
        }
        assert_eq!((table.next_end(), table.capacity()), (Some(now + 3 * SECOND), 1));
        table.finish(&1);
        assert_eq!(table.capacity(), 2);
        advance(2 * SECOND).await;
        table.set_end(&8, now + 3 * SECOND);
        for (key, end) in [(1, Some(now + 3 * SECOND)), (7, Some(now + 3 * SECOND)), (9, None)] {
            assert_eq!(table.until(&key), end, "{key}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_lost_is_not_settled() {
        let (table, now) = table(0, 3);
        table.begin(&2, now + SECOND);
        table.finish(&3);
        table.lose(|_| true);
        for (key, answer) in [(1, Begin::LeaseLost), (2, Begin::LeaseLost), (3, Begin::AlreadySettled)] {
            assert_eq!(table.begin(&key, now + SECOND), answer, "{key}");
        }
        advance(SECOND).await;
        assert_eq!((table.ended(9), table.next_end()), (vec![], None));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_remembered_for_ever() {
        let (table, now) = table(0, 3);
        table.extend(&1, now + 2 * SECOND);
        table.finish(&1);
        table.lose(|key| *key == 2);
        table.begin(&3, now + SECOND);
        assert_eq!(table.leases.lock().leases.len(), 3);
        advance(2 * SECOND).await;
        assert!(table.ended(9).is_empty());
        table.finish(&3);
        let leases = table.leases.lock();
        assert!(leases.leases.is_empty() && leases.ends.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_hand_takes_capacity_until_its_end() {
        let (table, now) = table(3, 2);
        assert_eq!(table.capacity(), 1);
        table.begin(&1, now + SECOND);
        assert_eq!(table.capacity(), 1);
        table.finish(&1);
        assert_eq!(table.capacity(), 2);
        advance(SECOND).await;
        assert_eq!(table.capacity(), 3);
        assert_eq!(table.ended(0), []);
        assert_eq!(table.ended(9).len(), 1);
        assert_eq!(table.capacity(), 3);
        assert_eq!(LeaseTable::<u32, ()>::new(0).capacity(), usize::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_the_time_learns_of_an_earlier_end_and_of_capacity() {
        let (table, now) = table(2, 1);
        table.changed().await;
        table.hand_out(now, [(7, 7, now + 2 * SECOND)]);
        assert!(table.changed().now_or_never().is_none());
        table.finish(&7);
        table.changed().await;
        table.finish(&7);
        assert!(table.changed().now_or_never().is_none());
        table.hand_out(now, [(8, 8, now + SECOND / 2)]);
        table.changed().await;
        assert_eq!(table.next_end(), Some(now + SECOND / 2));
    }
}
