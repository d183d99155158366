//! LIN: a handful of clients at once, whose answers must be those of one queue that is asked one call after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Consumer, Delivery, Message, Queue, QueueName, Settled, Verdict};
use tokio::time::sleep;

use super::crowd::in_tasks;
use super::hand::{level, number, steady};
use crate::check::linear::{Call, Item, Operation, is_linearizable};
use crate::verbs::{publish_one, settle_one};
use crate::{Case, Env, Fail, Outcome, Rng, case, ensure, ensure_eq};

const CLIENTS: usize = 5;
const CALLS: usize = 12;
/// Histories where time costs nothing, and where it does.
const VIRTUAL_ROUNDS: usize = 200;
const REAL_ROUNDS: usize = 40;

async fn a_few_clients_at_once(env: Env) -> Outcome {
    let mut handles = Vec::new();
    for _ in 0..CLIENTS {
        handles.push(env.open().await?);
    }
    for nth in 0..if env.virtual_time() { VIRTUAL_ROUNDS } else { REAL_ROUNDS } {
        let name = env.queue_name(&format!("round-{nth}"));
        handles[0].declare(&name.clone().into()).await?;
        one_round(&env, &handles, &name).await?;
        handles[0].delete(&name).await?;
    }
    Ok(())
}

async fn one_round(env: &Env, handles: &[Arc<dyn Queue>], name: &QueueName) -> Outcome {
    let journal = Arc::<Journal>::default();
    let mut clients = Vec::new();
    for handle in handles {
        clients.push(Client {
            queue: handle.clone(),
            name: name.clone(),
            consumer: handle.subscribe(&steady(env, name)).await?,
            journal: journal.clone(),
            rng: env.rng(),
            in_hand: Vec::new(),
            pause: env.t(0.01),
        });
    }
    // Whoever leaves may give back what he holds: nobody does before all have ended.
    let clients = in_tasks(clients.into_iter().map(Client::run)).await?;
    let history = journal.operations.lock().clone();
    ensure_eq!(history.len(), CLIENTS * CALLS, "calls");
    let shown = || history.iter().map(|it| format!("\n  {it}")).collect::<String>();
    ensure!(is_linearizable(&history), "no queue answers so, in whichever order:{}", shown());
    drop(clients);
    Ok(())
}

/// What all clients did.
#[derive(Default)]
struct Journal {
    clock: AtomicU64,
    numbers: AtomicU32,
    operations: Mutex<Vec<Operation>>,
}

impl Journal {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    fn ended(&self, began: u64, call: Call) {
        let mut operations = self.operations.lock();
        operations.push(Operation { began, ended: self.now(), call });
    }
}

struct Client {
    queue: Arc<dyn Queue>,
    name: QueueName,
    consumer: Box<dyn Consumer>,
    journal: Arc<Journal>,
    rng: Rng,
    in_hand: Vec<(Delivery, Item)>,
    pause: Duration,
}

impl Client {
    async fn run(mut self) -> Result<Self, Fail> {
        for _ in 0..CALLS {
            match self.rng.below(10) {
                0..=3 => self.publish().await?,
                4..=6 => self.receive().await?,
                word => self.settle_or_receive(word == 9).await?,
            }
            if self.rng.chance(0.3) {
                sleep(self.pause.mul_f64(self.rng.unit())).await;
            }
        }
        Ok(self)
    }

    async fn publish(&mut self) -> Outcome {
        let priority = if self.rng.chance(0.5) { 5 } else { 8 };
        let item = Item { priority, number: self.journal.numbers.fetch_add(1, SeqCst) };
        let message = Message::new(item.number.to_string()).with_priority(level(priority));
        let began = self.journal.now();
        publish_one(&self.queue, &self.name, message).await?;
        self.journal.ended(began, Call::Publish(item));
        Ok(())
    }

    async fn receive(&mut self) -> Outcome {
        let began = self.journal.now();
        let came = self.consumer.receive(1, Duration::ZERO).await?.pop();
        let number = came.as_ref().map(|it| number(&it.message)).transpose()?.map(|number| number as u32);
        self.journal.ended(began, Call::Receive(number));
        if let (Some(delivery), Some(number)) = (came, number) {
            let priority = delivery.message.priority().get();
            self.in_hand.push((delivery, Item { priority, number }));
        }
        Ok(())
    }

    async fn settle_or_receive(&mut self, release: bool) -> Outcome {
        let Some((delivery, item)) = self.in_hand.pop() else { return self.receive().await };
        let (verdict, call) = match release {
            true => (Verdict::Release { after: Duration::ZERO }, Call::Release(item)),
            false => (Verdict::Ack, Call::Ack(item.number)),
        };
        let began = self.journal.now();
        let answer = settle_one(&*self.consumer, &delivery.receipt, verdict).await?;
        self.journal.ended(began, call);
        ensure_eq!(answer, Settled::Applied, "a verdict");
        Ok(())
    }
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-LIN-01",
    "a few clients at once are answered as by one queue that is asked one call after the other",
    ["S-PUB-1", "S-DEL-3", "S-ORD-1", "S-ORD-2", "S-PRI-1", "S-PRI-2", "S-SET-2"],
    Safety,
    [Minutes],
    a_few_clients_at_once
)];
