//! How late is late: measured before the first case, under the load that the cases will make.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Destination, Info, Message, Queue, Receipt, Verdict};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::one::sample_lag;
use crate::env::Setting;
use crate::lateness::{Controls, LAG_SAMPLED};
use crate::series::Series;
use crate::{Env, Fail, Harness, Outcome};

const TRIPS: usize = 200;
const TRIES: u32 = 3;
/// A lag of the runtime that explains no slow trip: a wake-up that was only just missed.
pub(super) const SMALL_LAG: Duration = Duration::from_millis(5);

/// The result of calibration.
#[derive(Debug)]
pub(crate) enum Calibrated {
    /// L.
    Lateness(Duration),
    /// The machine is too busy to judge anything by its clock.
    Unfit(Measured),
}

/// What half of the trips took, what one in a hundred took, and the lag of the runtime in half of the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    median: Duration,
    p99: Duration,
    lag: Duration,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, p99, lag } = self;
        write!(
            f,
            "half of the trips take {median:?}, one in a hundred {p99:?}, the runtime's own lag is {lag:?}"
        )
    }
}

/// Measures round trips with as many clients at once as cases will run: L is ten times the slowest but one in a hundred, and no
/// more than `worst`, for beside a busy core only the slowest trips are slow, and what they excuse is seen when they come.
/// Where half of the trips are slow, it is for the machine or for the backend to answer for it: the runtime's own lag tells
/// which. Measuring again when the machine was busy is no repetition of any case.
pub(crate) async fn calibrate(
    harness: &Arc<dyn Harness>,
    info: &Info,
    run: &str,
    clients: usize,
    worst: Duration,
) -> Result<Calibrated, Fail> {
    let mut tries = 1;
    loop {
        let lag = Arc::new(Series::new(LAG_SAMPLED));
        let sampled = tokio::spawn(sample_lag(lag.clone()));
        let trips = measure(harness, info, &format!("cf-{run}-cal{tries}"), clients.max(1)).await?;
        sampled.abort();
        let measured = Measured::of(trips, lag.median());
        if measured.median * 4 <= worst {
            return Ok(Calibrated::Lateness(harness.lateness().max(measured.p99 * 10).min(worst)));
        }
        eprintln!("calibration: {measured}");
        if tries == TRIES {
            return if measured.lag > SMALL_LAG {
                Ok(Calibrated::Unfit(measured))
            } else {
                Err(Fail::new(format!(
                    "the backend is late when nothing is asked of it but a trip: {measured}"
                )))
            };
        }
        tries += 1;
    }
}

impl Measured {
    fn of(mut trips: Vec<Duration>, lag: Duration) -> Self {
        trips.sort_unstable();
        let median = trips.get(trips.len() / 2).copied().unwrap_or_default();
        Self { median, p99: p99(trips), lag }
    }
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
            controls: Controls::none(),
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

/// Publishes a message, and then receives and acks it.
pub(super) async fn round_trip(
    queue: &Arc<dyn Queue>,
    consumer: &dyn polyqueue::Consumer,
    to: &Destination,
) -> Outcome {
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
