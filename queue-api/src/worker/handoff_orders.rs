//! All orders in which a runner and its tasks may call the handoff, for a few jobs: none is forgotten, and none waits for a handler that
//! blocks its thread. Each call is one hold of one lock, so that orders of whole calls are all that there are; a wake that comes
//! late is a task that runs late.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::advance;

use super::handoff::Handoff;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Quick,
    /// It waits for something, which comes at any time.
    Waits,
    /// It blocks its thread for longer than all others take.
    Blocks,
}

const JOBS: usize = 3;
const KINDS: [Kind; 3] = [Kind::Quick, Kind::Waits, Kind::Blocks];

/// The same choices again, and then others, until there are no more.
#[derive(Default)]
struct Choices {
    made: Vec<(usize, usize)>,
    at: usize,
    /// What was found on the way: whatever follows on it was tried when it was found first.
    found: HashSet<String>,
}

impl Choices {
    fn choose(&mut self, among: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, among));
        }
        let (choice, of) = self.made[self.at];
        assert_eq!(of, among, "the same choices lead to the same");
        self.at += 1;
        choice
    }

    /// Whether this was found before, on another way.
    fn knows(&mut self, state: impl FnOnce() -> String) -> bool {
        self.at == self.made.len() && !self.found.insert(state())
    }

    /// Whether there is another order.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, among)) = self.made.pop() {
            if choice + 1 < among {
                self.made.push((choice + 1, among));
                return true;
            }
        }
        false
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// A task, which runs once it was woken.
struct Slot {
    flag: Arc<Flag>,
    job: Option<(usize, Kind)>,
    is_waiting: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Offer,
    Told,
    Look,
    Slot(usize),
}

struct World {
    handoff: Handoff<(usize, Kind), usize>,
    offers: Vec<Vec<(usize, Kind)>>,
    most: usize,
    slots: Vec<Slot>,
    runner: Arc<Flag>,
    is_looking: bool,
    ended: Vec<usize>,
}

impl World {
    fn new(offers: Vec<Vec<(usize, Kind)>>, most: usize) -> Self {
        let runner = Arc::new(Flag(true.into()));
        let handoff = Handoff::new(2);
        Self { handoff, offers, most, slots: Vec::new(), runner, is_looking: false, ended: Vec::new() }
    }

    /// What may happen next. A look is taken when all else is done; what blocks never ends.
    fn steps(&self) -> Vec<Step> {
        let runs = |slot: &Slot| match slot.job {
            Some((_, kind)) => kind != Kind::Blocks,
            None => slot.flag.0.load(Relaxed),
        };
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| runs(slot));
        let mut steps: Vec<_> = slots.map(|(at, _)| Step::Slot(at)).collect();
        steps.extend((!self.offers.is_empty()).then_some(Step::Offer));
        steps.extend(self.runner.0.load(Relaxed).then_some(Step::Told));
        if steps.is_empty() && self.is_looking {
            steps.push(Step::Look);
        }
        steps
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Offer => self.offer(),
            Step::Told => self.told(),
            Step::Look => {
                advance(Duration::from_millis(1)).await;
                self.is_looking = self.handoff.look(&mut self.ended);
            }
            Step::Slot(at) => self.slot(at),
        }
    }

    fn offer(&mut self) {
        let jobs = self.offers.remove(0);
        let wanted = (self.handoff.held() + jobs.len()).min(self.most);
        while self.slots.len() < wanted {
            self.handoff.add_task();
            let flag = Arc::new(Flag(true.into()));
            self.slots.push(Slot { flag, job: None, is_waiting: false });
        }
        self.is_looking |= self.handoff.offer(jobs);
    }

    fn told(&mut self) {
        let waker = Waker::from(self.runner.clone());
        self.runner.0.store(false, Relaxed);
        while self.handoff.poll_ended(&mut self.ended, &Context::from_waker(&waker)).is_ready() {}
    }

    fn slot(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        match slot.job {
            None => {
                let waker = Waker::from(slot.flag.clone());
                slot.flag.0.store(false, Relaxed);
                if let Poll::Ready(job) = self.handoff.poll_job(at, &Context::from_waker(&waker)) {
                    slot.job = Some(job);
                }
            }
            Some((_, Kind::Waits)) if !slot.is_waiting => {
                self.handoff.waits();
                slot.is_waiting = true;
            }
            Some((job, _)) => {
                self.handoff.ended(job, slot.is_waiting);
                (slot.job, slot.is_waiting) = (None, false);
                slot.flag.0.store(true, Relaxed);
            }
        }
    }

    /// In an order of `choices`, until nothing happens any more; `None` when it leads to what is known.
    async fn run(mut self, choices: &mut Choices) -> Option<Self> {
        loop {
            let steps = self.steps();
            if steps.is_empty() {
                return Some(self);
            }
            let step = steps[choices.choose(steps.len())];
            self.take(step).await;
            if choices.knows(|| self.state()) {
                return None;
            }
        }
    }

    fn all_ended(mut self) -> Vec<usize> {
        self.ended.sort_unstable();
        self.ended
    }

    /// All that what follows depends on.
    fn state(&self) -> String {
        let runner = (self.runner.0.load(Relaxed), self.is_looking, self.offers.len());
        let slots: Vec<_> =
            self.slots.iter().map(|slot| (slot.flag.0.load(Relaxed), slot.job, slot.is_waiting)).collect();
        format!("{} {runner:?} {slots:?} {:?}", self.handoff.described(), self.ended)
    }
}

/// Jobs of these kinds, some of them offered first and the rest later, in all orders: what does not block has ended and was told at last.
async fn each_order(kinds: [Kind; JOBS], first: usize, tasks: usize) {
    let mut jobs: Vec<_> = kinds.into_iter().enumerate().collect();
    let expected: Vec<usize> =
        jobs.iter().filter(|(_, kind)| *kind != Kind::Blocks).map(|job| job.0).collect();
    let rest = jobs.split_off(first);
    let mut choices = Choices::default();
    loop {
        let world = World::new(vec![jobs.clone(), rest.clone()], tasks).run(&mut choices).await;
        let ended = world.map_or_else(|| expected.clone(), World::all_ended);
        let order = &choices.made;
        assert_eq!(ended, expected, "{kinds:?}, {first} first, {tasks} tasks, in the order {order:?}");
        if !choices.next() {
            return;
        }
    }
}

/// A clock that stands still: handlers take no time, unless they wait or block.
#[tokio::test(start_paused = true)]
async fn no_job_is_forgotten_and_none_waits_for_one_that_blocks() {
    for code in 0..KINDS.len().pow(JOBS as u32) {
        let kinds = std::array::from_fn(|job| KINDS[code / KINDS.len().pow(job as u32) % KINDS.len()]);
        let blocking = kinds.iter().filter(|kind| **kind == Kind::Blocks).count();
        for tasks in (1..=JOBS).filter(|tasks| *tasks > blocking) {
            for first in 1..JOBS {
                each_order(kinds, first, tasks).await;
            }
        }
    }
}
