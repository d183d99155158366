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

/// At the same time.
const VICTIMS: usize = 4;
/// Cuts of each of them: together with the seed of the run they are that many places in calls.
const CUTS: usize = 6;
/// More bytes than these hardly any call here has.
const FAR: u64 = 3_000;

async fn cut_at_any_byte(env: Env) -> Outcome {
    let victims = (0..VICTIMS).map(async |nth| Victim::open(&env, nth).await?.survives_cuts().await);
    let cuts: u64 = try_join_all(victims).await?.into_iter().sum();
    ensure!(cuts > 0, "no cut came in the middle of a call: nothing was tried");
    Ok(())
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
    async fn open(env: &Env, nth: usize) -> Result<Self, Fail> {
        let LinkedQueue { queue, link, .. } = env.link().await?;
        let name = env.queue_name(&format!("victim-{nth}"));
        queue.declare(&name.clone().into()).await?;
        let consumer = queue.subscribe(&stubborn(env, &name)).await?;
        Ok(Self { env: env.clone(), rng: env.rng(), ledger: Ledger::default(), name, link, queue, consumer })
    }

    /// How many of the cuts came before a call was over.
    async fn survives_cuts(mut self) -> Result<u64, Fail> {
        for nth in 0..CUTS {
            self.publish_surely().await?;
            match nth % 3 {
                0 => {
                    self.cut_soon();
                    self.publish().await?;
                    self.link.heal();
                }
                1 => {
                    self.cut_soon();
                    let came = self.receive().await?;
                    self.link.heal();
                    self.ack(&came).await?;
                }
                _ => {
                    let came = self.receive_surely().await?;
                    self.cut_soon();
                    self.ack(&came).await?;
                    self.link.heal();
                }
            }
        }
        let cuts = self.link.traffic().cuts;
        self.drain().await?;
        Ok(cuts)
    }

    fn cut_soon(&mut self) {
        let direction = if self.rng.chance(0.5) { Direction::ToBroker } else { Direction::ToClient };
        // Most calls are short.
        let bytes = self.rng.below(FAR) >> self.rng.below(6);
        self.link.cut_after(direction, bytes);
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
        came.iter().for_each(|it| self.ledger.came(0, it.message.id(), receive));
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
        let end = Instant::now() + brief(&self.env) + patience(&self.env);
        while !self.ledger.outstanding().is_empty() {
            let came = self.receive().await?;
            self.ack(&came).await?;
            let missing = self.ledger.outstanding();
            ensure!(Instant::now() < end, "stored, and they did not come to their end: {missing:?}");
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
