//! DLQ: how many dead letters are kept, and for how long.

use std::sync::Arc;

use polyqueue::{MessageId, Queue, QueueSpec};
use tokio::time::{Instant, sleep_until};

use super::hand::{GRAIN, dead_letter_all, numbered, redrive_all};
use super::route::came_to;
use crate::verbs::dead_all;
use crate::{Case, Env, Outcome, case, ensure, ensure_eq};

async fn the_dead_are_kept_so_many_and_so_long(env: Env) -> Outcome {
    let queue = env.open().await?;
    let few = QueueSpec::new(env.queue_name("few")).dead_max_len(10);
    queue.declare(&few).await?;
    let sent = dead_letter_all(&env, &queue, &few.name, numbered(15)).await?;
    let kept: Vec<MessageId> =
        dead_all(&queue, &few.name).await?.iter().filter_map(|it| Some(it.message()?.id().clone())).collect();
    ensure_eq!(kept, sent[5..], "the youngest ten, oldest first");
    let stats = queue.stats(&few.name).await?;
    ensure_eq!((stats.dead, stats.counters.dropped), (10, 5), "dead, and dropped");
    dead_letter_all(&env, &queue, &few.name, numbered(1)).await?;
    let stats = queue.stats(&few.name).await?;
    ensure_eq!((stats.dead, stats.counters.dropped), (10, 6), "dead, and dropped, after one more");
    redrive_all(&queue, &few.name).await?;
    ensure_eq!(came_to(&env, &queue, &few.name).await?.len(), 10, "redriven");
    for look in 0..3 {
        grow_old(&env, &queue, look).await?;
    }
    Ok(())
}

/// Dead letters that are too old are gone whoever looks first: at the counts, at the dead letters, or to redrive them.
async fn grow_old(env: &Env, queue: &Arc<dyn Queue>, look: usize) -> Outcome {
    let age = env.t(5.0).max(env.hiccups(10));
    let spec = QueueSpec::new(env.queue_name(&format!("brief {look}"))).dead_max_age(age);
    let name = spec.name.clone();
    queue.declare(&spec).await?;
    let before = Instant::now();
    dead_letter_all(env, queue, &name, numbered(3)).await?;
    let died = Instant::now();
    let dead_letters = dead_all(queue, &name).await?;
    ensure!(
        dead_letters.len() == 3 || before.elapsed() >= age,
        "{} dead letters before their age",
        dead_letters.len()
    );
    let due = died + age + GRAIN;
    sleep_until(due + env.lateness()).await;
    let old: Vec<_> = dead_letters.into_iter().map(|dead_letter| dead_letter.id).collect();
    match look {
        0 => {
            let none = async || {
                ensure_eq!(queue.stats(&name).await?.dead, 0, "dead, after their age");
                Ok(())
            };
            env.by(due, "the end of dead letters, as counted", none).await?;
        }
        1 => {
            let none = async || {
                ensure_eq!(dead_all(queue, &name).await?.len(), 0, "dead letters after their age");
                Ok(())
            };
            env.by(due, "the end of dead letters, as listed", none).await?;
        }
        _ => {
            let redriven = queue.redrive(&name, &old).await?;
            if redriven.contains(&true) {
                return env.in_time(
                    &format!("the end of dead letters, redriven {redriven:?}"),
                    due,
                    Instant::now(),
                );
            }
        }
    }
    let stats = queue.stats(&name).await?;
    ensure_eq!((stats.ready, stats.dead, stats.counters.dropped), (0, 0, 3), "ready, dead, dropped");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-DLQ-08",
    "dead letters are kept so many and so long; the oldest are dropped first, and counted",
    ["S-DLQ-4", "S-ADM-4"],
    Safety,
    [],
    the_dead_are_kept_so_many_and_so_long
)];
