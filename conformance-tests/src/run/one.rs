//! One case from its first call to the last look at what it left behind.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

use crate::fail::count_assertions_in;
use crate::lateness::LAG_SAMPLED;
use crate::series::Series;
use crate::{Case, Env, Fail, Namespace, Need, Outcome, Time, check};

const VIRTUAL_DEADLINE: Duration = Duration::from_secs(1_000_000);
/// What healing, closing and deleting may take in all, and what a frozen thread is given beyond it.
const CLEANUP: Duration = Duration::from_secs(60);

/// Runs a case in this environment, on threads of its own, and judges its history. Never takes longer than the case's
/// deadline and what cleaning up takes, by the machine's clock.
pub(crate) fn run_case(case: &'static Case, env: Env) -> Result<Judged, Fail> {
    let (done, wait) = mpsc::channel();
    let limit = wall_deadline(case) + CLEANUP * 2;
    let judged = env.clone();
    std::thread::spawn(move || done.send(on_own_threads(case, env)));
    match wait.recv_timeout(limit) {
        Ok(outcome) => outcome.map(|()| judged.too_slow().map_or(Judged::Passed, Judged::TooSlow)),
        Err(_) => Err(Fail::new(format!("hangs: not ended after {limit:?}"))),
    }
}

/// What a case that has not failed came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Passed,
    /// The machine was so slow that a lateness means nothing: with what was late and how slow it was.
    TooSlow(String),
}

fn wall_deadline(case: &Case) -> Duration {
    Duration::from_secs(if case.needs.contains(&Need::Minutes) { 600 } else { 60 })
}

fn on_own_threads(case: &'static Case, env: Env) -> Outcome {
    let assertions = Arc::new(AtomicU64::new(0));
    count_assertions_in(&assertions);
    let runtime = runtime(env.harness().time(), &assertions).map_err(|error| Fail::new(error.to_string()))?;
    if !env.virtual_time() {
        runtime.spawn(sample_lag(env.lag().clone()));
    }
    let tried = runtime.block_on(tried(case, &env));
    let cleaned = runtime.block_on(async {
        timeout(CLEANUP, clean(case, &env)).await.unwrap_or_else(|_| Err("cleaning up hangs".into()))
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    let judged = judged(&env);
    // What the history shows is often the cause of what the case noticed.
    match (tried, judged) {
        (Err(tried), Err(judged)) => Err(format!("{tried}\n{judged}").into()),
        (tried, judged) => {
            tried.and(judged).and(cleaned).and(not_vacuous(case, &env, assertions.load(Relaxed)))
        }
    }
}

/// Notes how late this runtime wakes what sleeps, for as long as it lives.
pub(crate) async fn sample_lag(lag: Arc<Series>) {
    loop {
        lag.begin();
        sleep(LAG_SAMPLED).await;
        lag.end();
    }
}

/// A runtime of its own for each case: paused clocks cannot be shared, and a case cannot disturb another's.
pub(crate) fn runtime(time: Time, assertions: &Arc<AtomicU64>) -> std::io::Result<Runtime> {
    let mut builder = match time {
        Time::Virtual => Builder::new_current_thread(),
        Time::Real => Builder::new_multi_thread(),
    };
    let assertions = assertions.clone();
    builder.enable_all().on_thread_start(move || count_assertions_in(&assertions));
    match time {
        Time::Virtual => builder.start_paused(true).build(),
        Time::Real => builder.worker_threads(2).build(),
    }
}

async fn tried(case: &Case, env: &Env) -> Outcome {
    let deadline = if env.virtual_time() { VIRTUAL_DEADLINE } else { wall_deadline(case) };
    let body = AssertUnwindSafe((case.body)(env.clone())).catch_unwind();
    match timeout(deadline, body).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(Fail::new(format!("panicked: {}", panic_text(&*panic)))),
        Err(_) => Err(Fail::new(format!("not ended within {deadline:?}"))),
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// Leaves the broker as the case found it, and fails when it cannot.
async fn clean(case: &Case, env: &Env) -> Outcome {
    if case.needs.iter().any(|need| need.is_of_faults())
        && let Ok(faults) = env.harness().faults(env.namespace()).await
    {
        faults.heal().await?;
    }
    sweep(env).await
}

/// Closes every client of an environment, deletes its queues and asserts that nothing is left.
pub(crate) async fn sweep(env: &Env) -> Outcome {
    for queue in env.take_opened() {
        // Closing may fail on a connection that the case has cut; then nothing is left to be closed.
        let _ = timeout(Duration::from_secs(15), queue.close()).await;
    }
    let own = env.open_unrecorded(|options| options).await?;
    for namespace in env.namespaces() {
        let queue = own.namespace(namespace.name())?;
        for spec in queue.queues().await? {
            queue.delete(&spec.name).await?;
        }
    }
    own.close().await?;
    drop(own);
    for namespace in env.namespaces() {
        nothing_left(env, &namespace).await?;
    }
    Ok(())
}

async fn nothing_left(env: &Env, namespace: &Namespace) -> Outcome {
    let start = Instant::now();
    loop {
        let left = env.harness().leftovers(namespace).await?;
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(10) {
            return Err(format!("left behind on the broker: {}", left.join(", ")).into());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn judged(env: &Env) -> Outcome {
    env.namespaces().iter().try_for_each(|namespace| judged_in(env, namespace))
}

fn judged_in(env: &Env, namespace: &Namespace) -> Outcome {
    let history = namespace.recorder().history();
    let excused = |it: &check::found::Violation| {
        it.late.is_some_and(|(due, seen)| env.excuses(&it.to_string(), due, seen, seen - due))
    };
    let mut violations = check::all(&history, &check::found::Bounds::of(env));
    violations.retain(|it| !excused(it));
    if violations.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = violations.iter().take(5).map(ToString::to_string).collect();
    let more = violations.len().saturating_sub(shown.len());
    let more = if more > 0 { format!("\n… and {more} more") } else { String::new() };
    Err(format!("the history breaks the contract:\n{}{more}", shown.join("\n")).into())
}

/// A case that tries nothing must not look as if it had passed.
fn not_vacuous(case: &Case, env: &Env, assertions: u64) -> Outcome {
    if assertions == 0 {
        return Err("vacuous: it asserts nothing".into());
    }
    let made_none = |namespace: &Namespace| namespace.recorder().history().events.is_empty();
    if !case.needs.contains(&Need::Nothing) && env.namespaces().iter().all(made_none) {
        return Err("vacuous: it makes no recorded call".into());
    }
    Ok(())
}
