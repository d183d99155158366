//! FLT: the broker or the way to it is gone for a while, under load; then everything works again and nothing is missing.

use std::time::Duration;

use super::traffic::Traffic;
use crate::link::Direction;
use crate::{Case, Env, Fault, Outcome, case};

const HANDLES: usize = 4;

pub(super) async fn loaded(env: &Env) -> Result<Traffic, crate::Fail> {
    let mut handles = Vec::new();
    for _ in 0..HANDLES {
        handles.push(env.open().await?);
    }
    Traffic::start(env, handles).await
}

/// The second restart begins as soon as the broker is up again, while clients still come back.
async fn restarted_twice(env: Env) -> Outcome {
    let traffic = loaded(&env).await?;
    traffic.suffers(Fault::StopGracefully, Duration::ZERO).await?;
    traffic.suffers(Fault::StopGracefully, Duration::ZERO).await?;
    traffic.recovers().await?;
    traffic.drain().await
}

async fn paused(env: Env) -> Outcome {
    let traffic = loaded(&env).await?;
    traffic.suffers(Fault::Pause, Duration::from_secs(3)).await?;
    traffic.recovers().await?;
    traffic.drain().await
}

/// Requests pass and their answers do not, then the other way round; each for long enough that somebody waits for it.
async fn deaf_in_one_direction(env: Env) -> Outcome {
    let linked = env.link().await?;
    let mut handles = vec![linked.queue];
    for _ in 1..HANDLES {
        handles.push(env.open_at(&linked.url).await?);
    }
    let traffic = Traffic::start(&env, handles).await?;
    for direction in [Direction::ToClient, Direction::ToBroker] {
        linked.link.swallow(direction);
        tokio::time::sleep(Duration::from_secs(2)).await;
        linked.link.heal();
        traffic.recovers().await?;
    }
    linked.link.swallow(Direction::ToClient);
    tokio::time::sleep(env.t(2.0)).await;
    linked.link.cut();
    linked.link.heal();
    traffic.recovers().await?;
    traffic.drain().await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-FLT-02",
        "the broker is restarted in order, and again while its clients come back",
        ["S-FLT-1", "S-FLT-2", "S-PUB-1", "S-DEL-1", "S-DEL-2", "S-SET-2"],
        Both,
        [Fault(StopGracefully)],
        restarted_twice
    ),
    case!(
        "C-FLT-03",
        "the broker stops running for three seconds and goes on",
        ["S-FLT-1", "S-FLT-2", "S-PUB-1", "S-DEL-1", "S-DEL-2"],
        Both,
        [Fault(Pause)],
        paused
    ),
    case!(
        "C-FLT-08",
        "the way is deaf in one direction, then in the other, then cut",
        ["S-FLT-1", "S-FLT-2", "S-BPR-3"],
        Both,
        [Link],
        deaf_in_one_direction
    ),
];
