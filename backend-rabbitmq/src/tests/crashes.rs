//! Random histories of crashes and deaths, against a broker that is only what it does to marks: whoever is buried was in hand as often as
//! that says, and what kills its holders ends.

use std::collections::{BTreeMap, BTreeSet};

use polyqueue::backend::Jitter;

use crate::consume::boots::{Age, Boots, Return};
use crate::queue_type::behavior::QueueType;
use crate::queue_type::classic::Classic;

const HISTORIES: u64 = 20_000;
const STEPS: u64 = 24;
const MESSAGES: u64 = 3;
const CLIENTS: u64 = 3;
const MOST: u32 = 4;

#[derive(Clone, Debug)]
struct Copy {
    message: u64,
    written: u32,
    /// Of a foreign client there is none.
    boot: Option<String>,
    marked: bool,
}

struct Client {
    boots: Boots,
    /// The boot that it publishes in, once it has.
    own: Option<String>,
    hand: Vec<Copy>,
}

struct World {
    dice: Jitter,
    /// The best at the end.
    ready: Vec<Copy>,
    ids: BTreeSet<String>,
    made: u64,
    clients: Vec<Client>,
    /// What acks of the last moments took off: a crash may bring it back.
    just_acked: Vec<Copy>,
    had: BTreeMap<u64, u32>,
    buried: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            dice: Jitter::seeded(seed),
            ready: Vec::new(),
            ids: BTreeSet::new(),
            made: 0,
            clients: Vec::new(),
            just_acked: Vec::new(),
            had: BTreeMap::new(),
            buried: 0,
        };
        world.connect();
        for message in 0..MESSAGES {
            let boot = (world.dice.below(4) > 0).then(|| world.own(0));
            world.ready.push(Copy { message, written: 1, boot, marked: false });
        }
        world
    }

    fn connect(&mut self) {
        let client = || Client { boots: Boots::default(), own: None, hand: Vec::new() };
        self.clients = (0..CLIENTS).map(|_| client()).collect();
    }

    /// Several that begin at once do not see each other's.
    fn own(&mut self, client: usize) -> String {
        if let Some(own) = &self.clients[client].own {
            return own.clone();
        }
        let seen = self.ids.first().filter(|_| self.dice.below(3) > 0).cloned();
        let own = seen.unwrap_or_else(|| {
            self.made += 1;
            self.made.to_string()
        });
        self.ids.insert(own.clone());
        self.clients[client].own = Some(own.clone());
        own
    }

    fn age(&mut self, client: usize, copy: &Copy, hides: bool) -> Age {
        let Client { boots, own, .. } = &mut self.clients[client];
        let stamp = copy.boot.as_deref();
        if boots.age(stamp) == Age::Unknown {
            boots.learn(BTreeSet::new(), Some(own.iter().cloned().collect()));
        }
        if boots.age(stamp) == Age::Unknown {
            let found = if hides { BTreeSet::new() } else { self.ids.clone() };
            boots.learn(stamp.map(str::to_owned).into_iter().collect(), Some(found));
        }
        boots.age(stamp)
    }

    /// What one message at the front leads to. Answers whether it was handed out.
    fn receive(&mut self, client: usize, hides: bool) -> bool {
        let Some(copy) = self.ready.pop() else { return false };
        let age = if copy.marked { self.age(client, &copy, hides) } else { Age::Unknown };
        let came_back = Return::of(copy.marked, age);
        let attempt = Classic.attempt(copy.written, came_back == Return::Attempt, None);
        let had = self.had.get(&copy.message).copied().unwrap_or(0);
        if attempt > MOST {
            assert!(had >= MOST, "{copy:?} is buried and was in hand {had} times");
            self.buried += 1;
            return false;
        }
        if came_back == Return::None {
            assert!(
                attempt <= had + 1,
                "{copy:?} is handed out as attempt {attempt} and was in hand {had} times"
            );
            self.had.insert(copy.message, had + 1);
            self.clients[client].hand.push(copy);
            return true;
        }
        let next = Copy { written: attempt, boot: Some(self.own(client)), marked: false, ..copy.clone() };
        self.just_acked.push(copy);
        self.ready.push(next);
        false
    }

    fn die(&mut self, client: usize) {
        let returned = std::mem::take(&mut self.clients[client].hand);
        self.ready.extend(returned.into_iter().map(|copy| Copy { marked: true, ..copy }));
        self.clients[client] = Client { boots: Boots::default(), own: None, hand: Vec::new() };
    }

    /// An orderly restart marks only what was in hand, and undoes no ack.
    fn restart(&mut self, crash: bool) {
        (0..self.clients.len()).for_each(|client| self.die(client));
        let undone = std::mem::take(&mut self.just_acked);
        if crash {
            self.ready.extend(undone);
            self.ready.iter_mut().for_each(|copy| copy.marked = true);
        }
        self.ids.clear();
        self.connect();
    }

    fn step(&mut self) {
        let client = self.dice.below(CLIENTS) as usize;
        match self.dice.below(16) {
            0..8 => drop(self.receive(client, false)),
            8 => drop(self.receive(client, true)),
            9 => self.just_acked.extend(self.clients[client].hand.pop()),
            10 => self.just_acked.clear(),
            11 | 12 => self.restart(true),
            13 => self.restart(false),
            _ => self.die(client),
        }
    }
}

#[test]
fn nobody_is_buried_unseen_and_what_kills_ends() {
    let mut buried = 0;
    for seed in 0..HISTORIES {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        // From here on the broker lives, and each hand-out kills its holder.
        (0..CLIENTS as usize).for_each(|client| world.die(client));
        let mut left = world.ready.len() as u32 * (2 * MOST + 4);
        while !world.ready.is_empty() {
            let client = world.dice.below(CLIENTS) as usize;
            if world.receive(client, false) {
                world.die(client);
            }
            left = left
                .checked_sub(1)
                .unwrap_or_else(|| panic!("seed {seed}: it does not end: {:?}", world.ready));
        }
        buried += world.buried;
    }
    assert!(buried > 0);
}
