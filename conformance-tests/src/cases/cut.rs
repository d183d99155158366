//! FLT: the connection is cut at any byte of a call. What was answered is true, and the handle goes on.

use futures_util::future::try_join_all;
use polyqueue::{Consumer, Delivery, Message, Queue, QueueName, Verdict};
use std::sync::Arc;
use tokio::time::{Instant, sleep};

use super::arrival::{patience, timed};
use super::hand::brief;
use super::ledger::{Ledger, WORKS_WITHIN, passing};
use super::traffic::stubborn;
use crate::link::{Direction, Link};
use crate::{Case, Env, Fail, LinkedQueue, Outcome, Rng, case, ensure};

/// Each decides one cut; a run has these few, other runs have others.
const SEEDS: usize = 6;

/// What is cut in the middle.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Publish,
    Receive,
    Settle,
}

const VERBS: [Verb; 3] = [Verb::Publish, Verb::Receive, Verb::Settle];

async fn cut_at_any_byte(env: Env) -> Outcome {
    let seeds: Vec<(usize, u64)> = (0..SEEDS).map(|nth| (nth, env.rng().u64())).collect();
    try_join_all(seeds.into_iter().map(|(nth, seed)| cut_once(&env, nth, seed))).await.map(drop)
}

async fn cut_once(env: &Env, nth: usize, seed: u64) -> Outcome {
    let (verb, mut rng) = (VERBS[nth % VERBS.len()], Rng::new(seed));
    let direction = if rng.chance(0.5) { Direction::ToBroker } else { Direction::ToClient };
    let mut victim = Victim::open(env, nth, rng).await?;
    let outcome = victim.survives_a_cut(verb, direction).await;
    outcome.map_err(|fail| Fail::new(format!("{verb:?}, {direction:?}, seed {seed}: {fail}")))?;
    victim.drain().await
}

struct Victim {
    env: Env,
    rng: Rng,
    ledger: Ledger,
    name: QueueName,
    link: Arc<dyn Link>,
    queue: Arc<dyn Queue>,
    consumer: Box<dyn Consumer>,
}

impl Victim {
    async fn open(env: &Env, nth: usize, rng: Rng) -> Result<Self, Fail> {
        let LinkedQueue { queue, link, .. } = env.link().await?;
        let name = env.queue_name(&format!("victim-{nth}"));
        queue.declare(&name.clone().into()).await?;
        let consumer = queue.subscribe(&stubborn(env, &name)).await?;
        Ok(Self { env: env.clone(), rng, ledger: Ledger::default(), name, link, queue, consumer })
    }

    /// The first call, which is whole, shows how many bytes one has: a later one is cut at any of them.
    async fn survives_a_cut(&mut self, verb: Verb, direction: Direction) -> Outcome {
        let in_hand = self.prepare(verb).await?;
        let before = self.passed(direction);
        self.call(verb, &in_hand).await?;
        let bytes = self.passed(direction) - before;
        let in_hand = self.prepare(verb).await?;
        self.link.cut_after(direction, self.rng.below(bytes.max(1)));
        self.call(verb, &in_hand).await?;
        // The call may have had fewer bytes than the first; then one of the next is cut.
        let start = Instant::now();
        while self.link.traffic().cuts == 0 {
            self.publish().await?;
            let came = self.receive().await?;
            self.ack(&came).await?;
            self.works_soon(start).await?;
        }
        self.link.heal();
        self.publish_surely().await
    }

    /// What the call needs.
    async fn prepare(&mut self, verb: Verb) -> Result<Vec<Delivery>, Fail> {
        self.publish_surely().await?;
        match verb {
            Verb::Settle => self.receive_surely().await,
            Verb::Publish | Verb::Receive => Ok(Vec::new()),
        }
    }

    async fn call(&mut self, verb: Verb, in_hand: &[Delivery]) -> Outcome {
        match verb {
            Verb::Publish => self.publish().await.map(drop),
            Verb::Receive => {
                let came = self.receive().await?;
                self.ack(&came).await
            }
            Verb::Settle => self.ack(in_hand).await,
        }
    }

    fn passed(&self, direction: Direction) -> u64 {
        let traffic = self.link.traffic();
        match direction {
            Direction::ToBroker => traffic.to_broker,
            Direction::ToClient => traffic.to_client,
        }
    }

    /// Whether all of a batch was stored.
    async fn publish(&mut self) -> Result<bool, Fail> {
        let batch: Vec<Message> = (0..3).map(|_| Message::new(self.rng.bytes(300))).collect();
        let ids: Vec<_> = batch.iter().map(|message| message.id().clone()).collect();
        ids.iter().for_each(|id| self.ledger.publishes(id));
        let answers = match self.queue.publish(&(&self.name).into(), batch).await {
            Ok(answers) => answers,
            Err(error) => return passing(&error).map(|()| false),
        };
        let mut all = true;
        for (id, answer) in ids.iter().zip(answers) {
            match answer {
                Ok(_) => self.ledger.stored(id),
                Err(error) => {
                    passing(&error)?;
                    all = false;
                }
            }
        }
        Ok(all)
    }

    async fn publish_surely(&mut self) -> Outcome {
        let start = Instant::now();
        while !self.publish().await? {
            self.works_soon(start).await?;
        }
        Ok(())
    }

    async fn receive(&self) -> Result<Vec<Delivery>, Fail> {
        let (came, receive) = timed(self.consumer.receive(3, self.env.t(1.0))).await;
        let came = match came {
            Ok(came) => came,
            Err(error) => return passing(&error).map(|()| Vec::new()),
        };
        came.iter().for_each(|it| self.ledger.came(0, it, receive));
        Ok(came)
    }

    /// What the cut took out of its hands comes back at the end of its lease.
    async fn receive_surely(&self) -> Result<Vec<Delivery>, Fail> {
        let start = Instant::now();
        loop {
            let came = self.receive().await?;
            if !came.is_empty() {
                return Ok(came);
            }
            self.works_soon(start).await?;
        }
    }

    async fn ack(&self, came: &[Delivery]) -> Outcome {
        let acks: Vec<_> = came.iter().map(|it| (it.receipt.clone(), Verdict::Ack)).collect();
        if acks.is_empty() {
            return Ok(());
        }
        match self.consumer.settle(&acks).await {
            Ok(answers) => {
                came.iter().zip(&answers).try_for_each(|(it, answer)| self.ledger.acked(it, answer))
            }
            Err(error) => came.iter().try_for_each(|it| self.ledger.acked(it, &Err(error.clone()))),
        }
    }

    async fn works_soon(&self, start: Instant) -> Outcome {
        self.env.in_time_by("a call after a cut", start, Instant::now(), WORKS_WITHIN)?;
        sleep(self.env.t(0.1)).await;
        Ok(())
    }

    async fn drain(self) -> Outcome {
        let lease = brief(&self.env);
        let end = Instant::now() + lease + patience(&self.env);
        let mut drained_at = None;
        // An ack that had no effect shows at the end of its lease.
        while drained_at.is_none_or(|at: Instant| at.elapsed() < lease) {
            let came = self.receive().await?;
            self.ack(&came).await?;
            let missing = self.ledger.outstanding();
            if missing.is_empty() {
                drained_at.get_or_insert_with(Instant::now);
            }
            ensure!(
                Instant::now() < end || missing.is_empty(),
                "stored, and they did not come to their end: {missing:?}"
            );
        }
        self.env.drained(&self.name);
        self.ledger.no_ack_was_undone(&self.env)
    }
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-FLT-07",
    "the connection is cut at any byte of publish, receive and settle: what was answered is true",
    ["S-FLT-1", "S-FLT-2", "S-PUB-1", "S-PUB-2", "S-DEL-1", "S-SET-2"],
    Both,
    [Link],
    cut_at_any_byte
)];
