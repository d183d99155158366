//! How late is late: measured before the first case, under the load that the cases will make.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Destination, Info, Message, Queue, Receipt, Verdict};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::env::Setting;
use crate::{Env, Fail, Harness, Outcome};

const TRIPS: usize = 200;
const TRIES: u32 = 3;

/// The result of calibration.
#[derive(Debug)]
pub(crate) enum Calibrated {
    /// L.
    Lateness(Duration),
    /// The machine is too busy to judge anything by its clock: this L came out, at best.
    Unfit(Duration),
}

/// Measures round trips with as many clients at once as cases will run, and takes ten times the slowest but one in a
/// hundred. Measuring again when the machine was busy is no repetition of any case.
pub(crate) async fn calibrate(
    harness: &Arc<dyn Harness>,
    info: &Info,
    run: &str,
    clients: usize,
    worst: Duration,
) -> Result<Calibrated, Fail> {
    let mut best = Duration::MAX;
    for attempt in 0..TRIES {
        let p99 = p99(measure(harness, info, &format!("cf-{run}-cal{attempt}"), clients.max(1)).await?);
        let lateness = harness.lateness().max(p99 * 10);
        best = best.min(lateness);
        if best <= worst {
            return Ok(Calibrated::Lateness(best));
        }
        eprintln!("calibration: p99 of a round trip is {p99:?}, too slow; the machine may be busy");
    }
    Ok(Calibrated::Unfit(best))
}

async fn measure(
    harness: &Arc<dyn Harness>,
    info: &Info,
    stem: &str,
    clients: usize,
) -> Result<Vec<Duration>, Fail> {
    let mut tasks = JoinSet::new();
    let ready = Arc::new(Barrier::new(clients));
    for client in 0..clients {
        let setting = Setting {
            namespace: format!("{stem}-{client}"),
            seed: 0,
            lateness: Duration::ZERO,
            info: info.clone(),
        };
        tasks.spawn(one_client(Env::new(harness.clone(), setting), TRIPS.div_ceil(clients), ready.clone()));
    }
    let mut all = Vec::with_capacity(TRIPS);
    while let Some(client) = tasks.join_next().await {
        all.extend(client.map_err(|error| Fail::new(error.to_string()))??);
    }
    Ok(all)
}

async fn one_client(env: Env, trips: usize, ready: Arc<Barrier>) -> Result<Vec<Duration>, Fail> {
    let queue = env.open_unrecorded(|options| options).await?;
    let name = env.queue_name("calibration");
    queue.declare(&name.clone().into()).await?;
    let consumer = queue.subscribe(&env.subscription(&name)).await?;
    let mut times = Vec::with_capacity(trips);
    // The first trip also pays for connections and scripts that later ones find there; nobody measures before all have.
    let first = round_trip(&queue, consumer.as_ref(), &name.clone().into()).await;
    ready.wait().await;
    first?;
    for _ in 0..trips {
        let start = Instant::now();
        round_trip(&queue, consumer.as_ref(), &name.clone().into()).await?;
        times.push(start.elapsed());
    }
    ready.wait().await;
    drop(consumer);
    queue.delete(&name).await?;
    queue.close().await?;
    Ok(times)
}

async fn round_trip(queue: &Arc<dyn Queue>, consumer: &dyn polyqueue::Consumer, to: &Destination) -> Outcome {
    for answer in queue.publish(to, vec![Message::new("calibration")]).await? {
        answer?;
    }
    let came = consumer.receive(1, Duration::from_secs(5)).await?;
    let acks: Vec<(Receipt, Verdict)> = came.into_iter().map(|it| (it.receipt, Verdict::Ack)).collect();
    if acks.is_empty() {
        return Err(Fail::new("calibration: a published message did not come within 5 s"));
    }
    for answer in consumer.settle(&acks).await? {
        answer?;
    }
    Ok(())
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_may_be_slower() {
        let times = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(p99(times), Duration::from_millis(198));
        assert_eq!(p99(vec![]), Duration::ZERO);
    }
}
