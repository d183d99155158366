//! Threads of the application: one that is blocked loses no lease, and a runtime that has ended takes no handle with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use polyqueue::{Bytes, Job, Message, Queue, QueueName, Report, Worker};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::hand::{PATIENCE, brief, expiring, steady};
use crate::verbs::{publish_one, receive_none, receive_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// Runs `work` on a thread and a runtime of its own, which both end with it.
async fn elsewhere<T: Send + 'static, F: Future<Output = Result<T, Fail>>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, Fail> {
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let done = runtime.map_err(|error| Fail::new(error.to_string())).and_then(|it| it.block_on(work()));
        let _ = answer.send(done);
    });
    answered.await.map_err(|_| Fail::new("the thread panicked"))?
}

/// Works on one message, with a handler that blocks the only thread of its runtime for so long.
async fn work_blocked(
    env: Env,
    name: QueueName,
    blocked: Duration,
    calls: Arc<AtomicU32>,
) -> Result<Report, Fail> {
    let (done, stop) = oneshot::channel::<()>();
    let done = parking_lot::Mutex::new(Some(done));
    let handler = move |_: Job<Bytes>| {
        calls.fetch_add(1, SeqCst);
        std::thread::sleep(blocked);
        done.lock().take();
        async { Ok(()) }
    };
    let worker = Worker::new(env.open().await?).on_others(handler).lease(brief(&env));
    Ok(worker.run([name], stop).await?)
}

async fn a_blocked_thread_keeps_its_lease(env: Env) -> Outcome {
    let (queue, name) = env.declared("blocked").await?;
    publish_one(&queue, &name, Message::new("heavy")).await?;
    let (blocked, calls) = (brief(&env) * 4, Arc::<AtomicU32>::default());
    let working = {
        let (env, name, calls) = (env.clone(), name.clone(), calls.clone());
        elsewhere(move || work_blocked(env, name, blocked, calls))
    };
    let watch = async {
        let began = Instant::now();
        while calls.load(SeqCst) == 0 {
            ensure!(began.elapsed() < PATIENCE, "the handler was not called");
            tokio::time::sleep(env.t(0.1)).await;
        }
        let other = queue.subscribe(&expiring(&env, &name)).await?;
        let other = receive_none(&*other, blocked - brief(&env)).await;
        other.map_err(|fail| Fail::new(format!("beside a handler that blocks its thread: {fail}")))
    };
    let (report, watched) = tokio::join!(timeout(blocked + PATIENCE, working), watch);
    watched?;
    let report = report.map_err(|_| Fail::new("the worker did not end"))??;
    ensure_eq!(calls.load(SeqCst), 1, "calls of the handler");
    ensure_eq!(report.acked, 1, "acks of the worker");
    Ok(())
}

async fn a_handle_outlives_its_runtime(env: Env) -> Outcome {
    let (opened, name) = {
        let env = env.clone();
        elsewhere(async move || {
            let (queue, name) = env.declared("outlives").await?;
            publish_one(&queue, &name, Message::new("before")).await?;
            Ok::<(Arc<dyn Queue>, QueueName), Fail>((queue, name))
        })
        .await?
    };
    publish_one(&opened, &name, Message::new("after")).await?;
    let consumer = opened.subscribe(&steady(&env, &name)).await?;
    for expected in ["before", "after"] {
        let came = receive_one(&*consumer, PATIENCE).await?;
        ensure_eq!(came.message.payload(), expected, "message");
    }
    ensure!(opened.health().await.healthy, "not healthy on another runtime: {:?}", opened.health().await);
    drop(consumer);
    let closed = timeout(PATIENCE, opened.close()).await;
    ensure!(matches!(closed, Ok(Ok(()))), "close on another runtime answered {closed:?}");
    Ok(())
}

pub(super) const CASES: &[Case] = &[
    case!(
        "C-LSE-11",
        "a handler that blocks the only thread of its runtime keeps its lease",
        ["S-LSE-5"],
        Both,
        [RealTime],
        a_blocked_thread_keeps_its_lease
    ),
    case!(
        "C-LIF-10",
        "a handle outlives the runtime that it was opened on",
        ["S-LIF-10"],
        Both,
        [RealTime],
        a_handle_outlives_its_runtime
    ),
];
