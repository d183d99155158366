//! MOD: programs with a crash of the broker, and a connection that is cut before the answer, among their calls. Of each message it is known
//! where it may be; what is answered must be among that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Certainty, Consumer, Delivery, Error, Message, MessageId, Queue, QueueName, Settled, Verdict,
};
use tokio::time::{Instant, sleep};

use super::arrival::patience;
use super::fault::{fault_and_heal, kept_too_late};
use super::hand::brief;
use super::ledger::passing;
use super::traffic::stubborn;
use crate::link::{Direction, Link};
use crate::verbs::dead_all;
use crate::{Case, Env, Fail, Fault, LinkedQueue, Outcome, Rng, case, ensure};

/// Programs where waiting and crashing cost nothing, and where they do.
const VIRTUAL_PROGRAMS: usize = 100;
const REAL_PROGRAMS: usize = 1;
const CALLS: usize = 50;
/// In each program, at these calls.
const CRASHES: [usize; 2] = [15, 35];
/// How long a request may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(3);

async fn programs_with_crashes(env: Env) -> Outcome {
    let programs = if env.virtual_time() { VIRTUAL_PROGRAMS } else { REAL_PROGRAMS };
    for nth in 0..programs {
        let rng = env.rng();
        let mut program = Program::begin(&env, nth, rng).await?;
        let outcome = program.run().await;
        outcome.map_err(|fail| Fail::new(format!("{fail}\nafter:\n  {}", program.said.join("\n  "))))?;
    }
    Ok(())
}

/// Where a message may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Whereabouts {
    nowhere: bool,
    waiting: bool,
    acked: bool,
    dead: bool,
}

impl Whereabouts {
    const NOWHERE: Self = Self { nowhere: true, waiting: false, acked: false, dead: false };
    const WAITING: Self = Self { waiting: true, nowhere: false, acked: false, dead: false };
    const ACKED: Self = Self { acked: true, nowhere: false, waiting: false, dead: false };
    const DEAD: Self = Self { dead: true, nowhere: false, waiting: false, acked: false };

    fn or(self, other: Self) -> Self {
        Self {
            nowhere: self.nowhere || other.nowhere,
            waiting: self.waiting || other.waiting,
            acked: self.acked || other.acked,
            dead: self.dead || other.dead,
        }
    }
}

struct Program {
    env: Env,
    rng: Rng,
    name: QueueName,
    queue: Arc<dyn Queue>,
    link: Arc<dyn Link>,
    consumer: Box<dyn Consumer>,
    messages: BTreeMap<MessageId, Whereabouts>,
    acked: Vec<(MessageId, Instant)>,
    /// How many faults each has lived through, and those that were handed out more than once.
    felt: BTreeMap<MessageId, usize>,
    handed_out: BTreeSet<MessageId>,
    moved: BTreeSet<MessageId>,
    in_hand: Vec<Delivery>,
    said: Vec<String>,
}

impl Program {
    async fn begin(env: &Env, nth: usize, rng: Rng) -> Result<Self, Fail> {
        let LinkedQueue { link, url, .. } = env.link().await?;
        let at_link = |mut options: polyqueue::ConnectOptions| {
            options.url = url;
            options.deadline(DEADLINE)
        };
        let queue = env.open_with(at_link).await?;
        let name = env.queue_name(&format!("program-{nth}"));
        queue.declare(&name.clone().into()).await?;
        let consumer = queue.subscribe(&stubborn(env, &name)).await?;
        Ok(Self {
            env: env.clone(),
            rng,
            name,
            queue,
            link,
            consumer,
            messages: BTreeMap::new(),
            acked: Vec::new(),
            felt: BTreeMap::new(),
            handed_out: BTreeSet::new(),
            moved: BTreeSet::new(),
            in_hand: Vec::new(),
            said: Vec::new(),
        })
    }

    async fn run(&mut self) -> Outcome {
        for nth in 0..CALLS {
            if CRASHES.contains(&nth) {
                self.crash().await?;
            }
            let cut = self.rng.chance(0.1).then(|| self.cut_before_the_answer());
            match self.rng.below(10) {
                0..=3 => self.publish().await?,
                4..=6 => self.receive(self.env.t(0.5)).await?,
                _ => self.settle().await?,
            }
            if let Some(cut) = cut {
                cut.await.map_err(|panic| panic.to_string())?;
            }
        }
        self.end().await
    }

    async fn crash(&mut self) -> Outcome {
        self.said.push("crash".into());
        self.feel_a_fault();
        let before = Instant::now();
        fault_and_heal(&self.env, Fault::Kill9).await?;
        for (id, acked) in &self.acked {
            let window = self.env.info().ack_window;
            if before - *acked <= window && !window.is_zero() || kept_too_late(&self.env, *acked, before) {
                let known = self.messages.entry(id.clone()).or_default();
                *known = known.or(Whereabouts::WAITING);
            }
        }
        Ok(())
    }

    fn feel_a_fault(&mut self) {
        for (id, _) in self.messages.iter().filter(|(_, known)| known.waiting) {
            *self.felt.entry(id.clone()).or_default() += 1;
        }
    }

    /// Whether there may be two of it: where a move takes two steps, a fault may have come between them, or two where the first of them
    /// made the client move it.
    fn may_be_two(&self, id: &MessageId) -> bool {
        let felt = self.felt.get(id).copied().unwrap_or_default();
        !self.env.info().atomic_moves && felt >= if self.moved.contains(id) { 1 } else { 2 }
    }

    /// What is asked arrives, its answer does not.
    fn cut_before_the_answer(&mut self) -> tokio::task::JoinHandle<()> {
        self.said.push("cut before the answer:".into());
        self.feel_a_fault();
        self.link.swallow(Direction::ToClient);
        let link = self.link.clone();
        tokio::spawn(async move {
            sleep(ARRIVES_WITHIN).await;
            link.cut();
            link.heal();
        })
    }

    async fn publish(&mut self) -> Outcome {
        let message = Message::new("one");
        let id = message.id().clone();
        let answer = self.queue.publish(&(&self.name).into(), vec![message]).await;
        let known = match answer.and_then(|mut answers| answers.remove(0)) {
            Ok(_) => Whereabouts::WAITING,
            Err(error) => otherwise(&error, Whereabouts::NOWHERE, Whereabouts::WAITING)?,
        };
        self.said.push(format!("publish {id}: {known:?}"));
        self.messages.insert(id, known);
        Ok(())
    }

    async fn receive(&mut self, wait: Duration) -> Outcome {
        let came = match self.consumer.receive(2, wait).await {
            Ok(came) => came,
            Err(error) => return passing(&error),
        };
        for delivery in came {
            let id = delivery.message.id().clone();
            self.said.push(format!("received {id}, attempt {}", delivery.attempt));
            let known = self.messages.get(&id).copied().unwrap_or_default();
            ensure!(known.waiting, "{id} came, which may only be {known:?}");
            // What may have died may have left a copy there.
            if !self.handed_out.insert(id.clone()) || delivery.attempt > 1 {
                self.moved.insert(id.clone());
            }
            self.messages.insert(id, Whereabouts { dead: known.dead, ..Whereabouts::WAITING });
            self.in_hand.push(delivery);
        }
        Ok(())
    }

    async fn settle(&mut self) -> Outcome {
        let Some(delivery) = self.in_hand.pop() else { return self.receive(self.env.t(0.5)).await };
        let verdict = match self.rng.below(6) {
            0 => Verdict::retry(Duration::ZERO, "again"),
            1 => Verdict::Release { after: Duration::ZERO },
            2 => Verdict::reject("not for me"),
            _ => Verdict::Ack,
        };
        self.give(&delivery, verdict).await
    }

    async fn give(&mut self, delivery: &Delivery, verdict: Verdict) -> Outcome {
        let id = delivery.message.id().clone();
        let effect = match &verdict {
            Verdict::Ack => Whereabouts::ACKED,
            Verdict::DeadLetter { .. } => Whereabouts::DEAD,
            Verdict::Retry { .. } | Verdict::Release { .. } => Whereabouts::WAITING,
        };
        let settled = [(delivery.receipt.clone(), verdict)];
        let before = self.messages.get(&id).copied().unwrap_or_default();
        let known = match self.consumer.settle(&settled).await.and_then(|mut answers| answers.remove(0)) {
            Ok(Settled::Applied | Settled::Died) => {
                let waiting = effect.waiting || self.may_be_two(&id);
                Whereabouts { dead: before.dead || effect.dead, waiting, ..effect }
            }
            Ok(Settled::LeaseLost) => before,
            Ok(Settled::AlreadySettled) => {
                return Err(format!("a first verdict on {id} was answered AlreadySettled").into());
            }
            Err(error) => before.or(otherwise(&error, before, effect)?),
        };
        self.said.push(format!("{:?} {id}: {known:?}", settled[0].1));
        if known.acked && !known.waiting {
            self.acked.push((id.clone(), Instant::now()));
        }
        self.messages.insert(id, known);
        Ok(())
    }

    /// What surely waits comes, what surely died is listed, and nothing else.
    async fn end(&mut self) -> Outcome {
        for delivery in std::mem::take(&mut self.in_hand) {
            self.give(&delivery, Verdict::Ack).await?;
        }
        let end = Instant::now() + 2 * brief(&self.env) + patience(&self.env);
        loop {
            let lost = self.lost().await?;
            if lost.is_empty() {
                break;
            }
            ensure!(Instant::now() < end, "lost: {lost:?}");
            self.receive(self.env.t(1.0)).await?;
            for delivery in std::mem::take(&mut self.in_hand) {
                self.give(&delivery, Verdict::Ack).await?;
            }
        }
        // A verdict that had no effect shows at the end of its lease.
        let over = Instant::now() + brief(&self.env);
        while Instant::now() < over {
            self.receive(self.env.t(1.0)).await?;
        }
        let dead = self.dead().await?;
        for id in &dead {
            let known = self.messages.get(id).copied().unwrap_or_default();
            ensure!(known.dead, "{id} is dead, which may only be {known:?}");
        }
        let sure = self.messages.iter().filter(|(_, known)| **known == Whereabouts::DEAD);
        for (id, _) in sure {
            ensure!(dead.contains(id), "{id} is not among the dead letters");
        }
        Ok(())
    }

    /// Those that are not at their end, as far as is known.
    async fn lost(&self) -> Result<BTreeSet<MessageId>, Fail> {
        let dead = self.dead().await?;
        let open = |known: &Whereabouts| known.waiting && !known.nowhere && !known.acked;
        let lost =
            self.messages.iter().filter(|(id, known)| open(known) && !(known.dead && dead.contains(*id)));
        Ok(lost.map(|(id, _)| id.clone()).collect())
    }

    async fn dead(&self) -> Result<BTreeSet<MessageId>, Fail> {
        let listed = dead_all(&self.queue, &self.name).await?;
        Ok(listed.iter().filter_map(|it| it.message().map(|message| message.id().clone())).collect())
    }
}

/// What an error leaves open.
fn otherwise(error: &Error, undone: Whereabouts, done: Whereabouts) -> Result<Whereabouts, Fail> {
    passing(error)?;
    Ok(match error.certainty() {
        Certainty::Definite => undone,
        Certainty::Unknown => undone.or(done),
    })
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-MOD-03",
    "programs with crashes and lost answers: each message is where it may be",
    ["S-FLT-2", "S-PUB-1", "S-PUB-2", "S-DEL-1", "S-DEL-2", "S-SET-2", "S-DLQ-2"],
    Both,
    [Fault(Kill9), Link],
    programs_with_crashes
)];
