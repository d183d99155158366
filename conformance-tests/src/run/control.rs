//! The control of a run: undelayed trips through the same broker, all the time, with which whatever comes late is compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use polyqueue::{Consumer, Queue};
use tokio::time::{sleep, timeout};

use super::calibrate::{SMALL_LAG, round_trip};
use super::one::{runtime, sample_lag, sweep};
use crate::series::Series;
use crate::{Env, Fail, Outcome};

/// From the end of a trip to the begin of the next.
const PAUSE: Duration = Duration::from_millis(80);
/// Trips of which something can be said.
const ENOUGH: usize = 20;
/// A trip that has not ended by then has failed; it may have met a fault of the broker.
const FAILED: Duration = Duration::from_secs(10);

/// A client on a thread of its own, for as long as the value lives.
pub(super) struct Control {
    trips: Arc<Series>,
    lag: Arc<Series>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    pub(super) fn start(env: Env) -> Self {
        let (trips, stop) = (Arc::new(Series::new(Duration::ZERO)), Arc::new(AtomicBool::new(false)));
        let lag = env.lag().clone();
        let (its_trips, its_stop) = (trips.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            if let Ok(runtime) = runtime(env.harness().time(), &Arc::default()) {
                runtime.spawn(sample_lag(env.lag().clone()));
                runtime.block_on(travel(&env, &its_trips, &its_stop));
                runtime.shutdown_timeout(Duration::from_secs(1));
            }
        });
        Self { trips, lag, stop, thread: Some(thread) }
    }

    pub(super) fn trips(&self) -> &Arc<Series> {
        &self.trips
    }

    /// A control that is late again and again excuses nothing: it is the backend that is slow, where the runtime is not.
    pub(super) fn always_late(&self, bound: Duration) -> Option<String> {
        let ((late, all), lag) = (self.trips.longer_than(bound), self.lag.median());
        let slow = all >= ENOUGH && late * 4 > all && lag <= SMALL_LAG;
        slow.then(|| {
            format!("{late} of {all} trips of the control took longer than {bound:?}, the runtime's own lag was {lag:?}")
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Trip after trip, with a new client after each that fails: a case may have taken the broker away.
async fn travel(env: &Env, trips: &Series, stop: &AtomicBool) {
    while !stop.load(SeqCst) {
        let _ = as_long_as_it_works(env, trips, stop).await;
        trips.forget();
        sleep(PAUSE).await;
    }
    let _ = timeout(FAILED, sweep(env)).await;
}

async fn as_long_as_it_works(env: &Env, trips: &Series, stop: &AtomicBool) -> Outcome {
    let (queue, consumer) = client(env).await?;
    let to = env.queue_name("control").into();
    round_trip(&queue, &*consumer, &to).await?;
    while !stop.load(SeqCst) {
        trips.begin();
        timeout(FAILED, round_trip(&queue, &*consumer, &to)).await.map_err(|_| "it does not come back")??;
        trips.end();
        sleep(PAUSE).await;
    }
    drop(consumer);
    Ok(queue.close().await?)
}

/// What is published is there before anybody asks for it: neither a delay nor a wake-up has a part in it.
async fn client(env: &Env) -> Result<(Arc<dyn Queue>, Box<dyn Consumer>), Fail> {
    let queue = env.open_unrecorded(|options| options).await?;
    let name = env.queue_name("control");
    queue.declare(&name.clone().into()).await?;
    let consumer = queue.subscribe(&env.subscription(&name)).await?;
    Ok((queue, consumer))
}
