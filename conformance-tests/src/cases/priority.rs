//! PRI: the highest priority first, always; inside one priority the oldest.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Certainty, Consumer, Error, Message, MessageId, Priority, Queue, QueueName, Verdict};
use tokio::time::{Instant, sleep, sleep_until};

use super::arrival::{Arrival, ack, apply, patience, text};
use super::crowd::drain_in_batches;
use super::fault::{fault_and_heal, next_after_fault};
use super::hand;
use crate::verbs::{publish_all, publish_one, receive_one};
use crate::{Case, Env, Fail, Fault, Outcome, case, ensure, ensure_eq};

const NINE: NonZeroU32 = NonZeroU32::new(9).unwrap();

/// `n` messages of one priority; the payload says which.
pub(super) fn messages_at(n: usize, level: u8) -> Vec<Message> {
    let priority = Priority::new(level).expect("1 to 10");
    (0..n).map(|_| Message::new(format!("p{level}")).with_priority(priority)).collect()
}

async fn ten_priorities_come_in_order(env: Env) -> Outcome {
    let (queue, q) = env.declared("ten").await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let mut levels: Vec<u8> = (1..=10).flat_map(|level| [level; 10]).collect();
    env.rng().shuffle(&mut levels);
    let batch = levels.iter().flat_map(|&at| messages_at(1, at)).collect();
    let ids = publish_all(&queue, &q, batch).await?;
    let drained = drain_in_batches(&env, &*consumer, 100, 1).await?;
    let came: Vec<MessageId> = hand::ids(&drained);
    let came_as: Vec<String> = drained.iter().map(text).collect();
    ensure!(came == by_priority(&levels, &ids), "came as {came_as:?}");
    Ok(())
}

async fn five_is_the_default_and_ten_the_highest(env: Env) -> Outcome {
    for wrong in [0_i64, 11, -1, 255] {
        let Err(error) = Priority::new(wrong) else {
            return Err(format!("priority {wrong} was accepted").into());
        };
        ensure!(matches!(&error, Error::Invalid { field, .. } if field == "priority"), "{wrong}: {error}");
        ensure_eq!(error.certainty(), Certainty::Definite, "whether {wrong} is certainly refused");
    }
    let (queue, q) = env.declared("default").await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    publish_all(&queue, &q, messages_at(1, 4)).await?;
    publish_one(&queue, &q, Message::new("default")).await?;
    publish_all(&queue, &q, messages_at(1, 6)).await?;
    for (text, priority) in [("p6", 6), ("default", 5), ("p4", 4)] {
        let arrival = Arrival::acked(&env, &*consumer).await?;
        ensure_eq!((&*arrival.text(), arrival.delivery.message.priority().get()), (text, priority));
    }
    Ok(())
}

async fn an_urgent_message_is_next(env: Env) -> Outcome {
    for prefetch in [0, 1] {
        let (queue, q) = env.declared(&format!("urgent-{prefetch}")).await?;
        publish_all(&queue, &q, messages_at(100, 1)).await?;
        let consumer = queue.subscribe(&env.subscription(&q).prefetch(prefetch)).await?;
        for _ in 0..10 {
            let busy = Arrival::next(&env, &*consumer).await?;
            ensure_eq!(busy.text(), "p1", "what was ready");
            publish_all(&queue, &q, messages_at(1, 10)).await?;
            ack(&*consumer, &busy.delivery).await?;
            ensure_eq!(
                Arrival::acked(&env, &*consumer).await?.text(),
                "p10",
                "the next with prefetch {prefetch}"
            );
        }
    }
    Ok(())
}

async fn a_buffer_is_sorted_and_overtakes_at_most_its_size(env: Env) -> Outcome {
    const PREFETCH: usize = 10;
    let (queue, q) = env.declared("buffer").await?;
    let consumer = queue.subscribe(&env.subscription(&q).prefetch(PREFETCH).lease(env.t(100.0))).await?;
    publish_all(&queue, &q, messages_at(1, 5)).await?;
    let in_hand = receive_one(&*consumer, patience(&env)).await?;
    for at in [2, 7, 4, 9, 1, 3, 8, 5, 6] {
        publish_all(&queue, &q, messages_at(1, at)).await?;
    }
    buffered(&env, &queue, &q).await?;
    publish_all(&queue, &q, messages_at(1, 10)).await?;
    ack(&*consumer, &in_hand).await?;
    let mut came = Vec::new();
    for _ in 0..PREFETCH {
        came.push(Arrival::acked(&env, &*consumer).await?.delivery.message.priority().get());
    }
    let urgent = came.iter().position(|&at| at == 10).ok_or("the urgent one did not come")?;
    ensure!(urgent < PREFETCH, "{urgent} came before the urgent one");
    came.remove(urgent);
    ensure_eq!(came, [9, 8, 7, 6, 5, 4, 3, 2, 1], "the nine that the buffer may have had");
    Ok(())
}

/// Waits until the consumer has taken what it takes ahead, which may be nothing, and L for it to arrive.
async fn buffered(env: &Env, queue: &Arc<dyn Queue>, q: &QueueName) -> Outcome {
    let end = Instant::now() + env.lateness();
    while queue.stats(q).await?.ready > 0 && Instant::now() < end {
        sleep(env.t(0.05)).await;
    }
    sleep(env.lateness()).await;
    Ok(())
}

async fn a_returning_message_keeps_its_priority(env: Env) -> Outcome {
    let (queue, q) = env.declared("returning").await?;
    publish_all(&queue, &q, messages_at(10, 8)).await?;
    publish_all(&queue, &q, messages_at(1, 9)).await?;
    let consumer = queue.subscribe(&env.subscription(&q).max_attempts(NINE)).await?;
    let first = expect(&env, &*consumer, "p9", 1).await?;
    let retried = apply(&*consumer, &first.delivery, Verdict::retry(env.t(1.0), "again")).await?;
    let second = first_by(&env, &*consumer, retried.ret + env.t(1.0), 2).await?;
    let third = first_by(&env, &*consumer, second.receive.ret + env.t(5.0), 3).await?;
    let released = apply(&*consumer, &third.delivery, Verdict::Release { after: Duration::ZERO }).await?;
    let last = first_by(&env, &*consumer, released.ret, 3).await?;
    ack(&*consumer, &last.delivery).await?;
    ensure_eq!(Arrival::acked(&env, &*consumer).await?.text(), "p8", "what was ready all the time");
    Ok(())
}

/// The p9 that is ready at `due`, asked for when L has passed since: it comes before the p8 that are ready all the time. A p8 that
/// comes all the same shows how late the p9 is.
async fn first_by(env: &Env, consumer: &dyn Consumer, due: Instant, attempt: u32) -> Result<Arrival, Fail> {
    sleep_until(due + env.lateness()).await;
    loop {
        let arrival = Arrival::next(env, consumer).await?;
        if arrival.text() == "p9" {
            ensure_eq!(arrival.delivery.attempt, attempt, "the attempt of the p9");
            return Ok(arrival);
        }
        ack(consumer, &arrival.delivery).await?;
        env.in_time("a p9 beside a p8 that was handed out", due, arrival.receive.ret)?;
    }
}

async fn expect(env: &Env, consumer: &dyn Consumer, text: &str, attempt: u32) -> Result<Arrival, Fail> {
    let arrival = Arrival::next(env, consumer).await?;
    ensure_eq!((&*arrival.text(), arrival.delivery.attempt), (text, attempt), "the next hand-out");
    Ok(arrival)
}

async fn a_due_message_keeps_its_priority(env: Env) -> Outcome {
    let (queue, q) = env.declared("due").await?;
    publish_all(&queue, &q, messages_at(50, 8)).await?;
    let urgent = messages_at(1, 9).into_iter().map(|message| message.with_delay(env.t(3.0))).collect();
    publish_all(&queue, &q, urgent).await?;
    let due = Instant::now() + env.t(3.0);
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    ack(&*consumer, &first_by(&env, &*consumer, due, 1).await?.delivery).await?;
    ensure_eq!(Arrival::acked(&env, &*consumer).await?.text(), "p8", "the second hand-out");
    Ok(())
}

async fn a_restart_keeps_the_order(env: Env) -> Outcome {
    let (queue, q) = env.declared("restarted").await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let mut levels: Vec<u8> = (1..=10).flat_map(|at| [at; 4]).collect();
    env.rng().shuffle(&mut levels);
    let batch = levels.iter().flat_map(|&at| messages_at(1, at)).collect();
    let ids = publish_all(&queue, &q, batch).await?;
    fault_and_heal(&env, Fault::StopGracefully).await?;
    let mut came = Vec::new();
    for _ in 0..ids.len() {
        let arrival = next_after_fault(&env, &*consumer).await?;
        ack(&*consumer, &arrival.delivery).await?;
        came.push(arrival.delivery.message.id().clone());
    }
    ensure_eq!(came, by_priority(&levels, &ids), "the order afterwards");
    Ok(())
}

/// The ids in the order that is promised: by priority, then as they were published.
fn by_priority(levels: &[u8], ids: &[MessageId]) -> Vec<MessageId> {
    let mut order: Vec<(u8, usize)> = levels.iter().map(|&at| 10 - at).zip(0..).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, place)| ids[place].clone()).collect()
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-PRI-01",
        "ten priorities come in order, equal ones as they were published",
        ["S-PRI-1", "S-ORD-1"],
        Safety,
        [],
        ten_priorities_come_in_order
    ),
    case!(
        "C-PRI-02",
        "priorities are 1 to 10, 5 by default, all others are refused",
        ["S-PRI-1", "S-VAL-4"],
        Safety,
        [],
        five_is_the_default_and_ten_the_highest
    ),
    case!(
        "C-PRI-03",
        "an urgent message that was published is the next hand-out",
        ["S-PRI-1", "S-PRI-2"],
        Safety,
        [],
        an_urgent_message_is_next
    ),
    case!(
        "C-PRI-06",
        "a buffer that was asked for is sorted and overtakes at most its size",
        ["S-PRI-3"],
        Safety,
        [],
        a_buffer_is_sorted_and_overtakes_at_most_its_size
    ),
    case!(
        "C-PRI-07",
        "retried, expired and released, a message keeps its priority",
        ["S-PRI-4", "S-ORD-2", "S-ATT-1"],
        Safety,
        [],
        a_returning_message_keeps_its_priority
    ),
    case!(
        "C-PRI-08",
        "a delayed message that is due keeps its priority",
        ["S-PRI-4", "S-ORD-2"],
        Safety,
        [],
        a_due_message_keeps_its_priority
    ),
    case!(
        "C-PRI-09",
        "a restart of the broker keeps the order",
        ["S-PRI-4", "S-ORD-1"],
        Safety,
        [Durable, Faults],
        a_restart_keeps_the_order
    ),
];
