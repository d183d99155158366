//! MEM: one client is cut off from the broker, the others are not.

use std::time::Duration;

use polyqueue::Message;
use tokio::time::{Instant, timeout};

use super::arrival::{Arrival, ack, patience, timed};
use super::fault::{next_after_fault, publish_after_fault};
use super::hand::{PATIENCE, steady};
use super::ledger::{WORKS_WITHIN, passing};
use crate::link::Direction;
use crate::verbs::{publish_any, publish_one, receive_none};
use crate::{Case, Env, LinkedQueue, Outcome, case, ensure, ensure_eq};

const DEADLINE: Duration = Duration::from_secs(2);

/// How a client is cut off.
#[derive(Clone, Copy, Debug)]
enum Separation {
    Refused,
    Silent,
}

async fn only_who_is_cut_off_is_told(env: Env) -> Outcome {
    for separation in [Separation::Refused, Separation::Silent] {
        cut_off(&env, separation).await?;
    }
    Ok(())
}

async fn cut_off(env: &Env, separation: Separation) -> Outcome {
    let (b, name) = env.declared(&format!("{separation:?}").to_lowercase()).await?;
    let LinkedQueue { link, url, .. } = env.link().await?;
    let at_link = |mut options: polyqueue::ConnectOptions| {
        options.url = url;
        options.deadline(DEADLINE)
    };
    let a = env.open_with(at_link).await?;
    let (of_a, of_b) = (env.queue_name(&format!("{name}-a")), name);
    a.declare(&of_a.clone().into()).await?;
    let reader_a = a.subscribe(&steady(env, &of_a)).await?;
    let reader_b = b.subscribe(&steady(env, &of_b)).await?;
    receive_none(&*reader_a, Duration::ZERO).await?;
    receive_none(&*reader_b, Duration::ZERO).await?;
    match separation {
        Separation::Refused => {
            link.refuse();
            link.cut();
        }
        Separation::Silent => {
            link.swallow(Direction::ToBroker);
            link.swallow(Direction::ToClient);
        }
    }
    let message = Message::new("of a");
    let id = message.id().clone();
    let (answer, span) = timed(timeout(DEADLINE + PATIENCE, publish_any(&a, &of_a, message))).await;
    env.in_time_by("the end of a publish", span.inv + DEADLINE, span.ret, Duration::from_secs(1))?;
    match answer.map_err(|_| "a publish hangs")?? {
        Ok(_) => return Err("a client that is cut off published".into()),
        Err(error) => passing(&error)?,
    }
    ensure!(!a.health().await.healthy, "the health of who is cut off is good");
    ensure!(b.health().await.healthy, "the health of who is not cut off is bad");
    let (stored, call) = timed(publish_one(&b, &of_b, Message::new("of b"))).await;
    stored?;
    let came = Arrival::acked(env, &*reader_b).await?;
    env.in_time("a message of who is not cut off", call.ret, came.receive.ret)?;
    link.heal();
    let healed = Instant::now();
    publish_after_fault(env, &a, &of_a, "again").await?;
    let mut again = next_after_fault(env, &*reader_a).await?;
    env.in_time_by("a message of who was cut off", healed, again.receive.ret, WORKS_WITHIN)?;
    ack(&*reader_a, &again.delivery).await?;
    // What it was not told of may have been stored, once.
    if again.delivery.message.id() == &id {
        again = Arrival::next(env, &*reader_a).await?;
        ack(&*reader_a, &again.delivery).await?;
    }
    ensure_eq!(again.text(), "again", "what was published after it was cut off");
    ensure!(healed.elapsed() < patience(env), "it took for ever");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-MEM-03",
    "one client is cut off: it is told so in time and goes on later, and the others notice nothing",
    ["S-FLT-1", "S-FLT-2", "S-BPR-3"],
    Both,
    [Link],
    only_who_is_cut_off_is_told
)];
