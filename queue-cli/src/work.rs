//! `polyqueue work`: xargs for queues.

mod attempt;
mod breaker;
mod command;
mod ending;
mod environment;
mod fault;
mod line;
mod process_group;
mod progress;
mod stderr;
mod stdout;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Queue, RetryPolicy, Worker};

use crate::args::Work;
use crate::exit::{Exit, Result};
use crate::{broker, stop};
use attempt::Attempts;
use breaker::Breaker;
use ending::{Ending, Reason};
use progress::Progress;

/// A graceful stop lets running commands finish, however long they take; a second signal ends them.
const STOP_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) async fn run(queue: &Arc<dyn Queue>, args: &Work) -> Result<()> {
    command::check(&args.exec).await.map_err(|why| Exit::Usage(format!("--exec: {why}")))?;
    for name in &args.queues {
        broker::ensure_declared(&**queue, name.clone()).await?;
    }
    let policy = RetryPolicy::new(args.max_attempts.get(), args.backoff.clone())?;
    let ending = Arc::new(Ending::default());
    let attempts = Arc::new(Attempts {
        shell: args.exec.clone(),
        timeout: args.timeout,
        replies: args.reply.then(|| queue.clone()),
        breaker: Arc::new(Breaker::new(ending.clone())),
        progress: Arc::new(Progress::new(args.max, policy.clone(), ending.clone())),
    });
    let (first, second) = (stop::requested()?, stop::requested_twice()?);
    let progress = attempts.progress.clone();
    let overdue = async {
        let reason = tokio::select! {
            () = first => Reason::Signal,
            () = progress.empty(&**queue, &args.queues), if args.until_empty => Reason::Empty,
        };
        ending.begin(reason);
        match reason {
            Reason::Signal => progress.overdue(args.lease).await,
            _ => pending().await,
        }
    };
    let worker = || worker(queue, args, &policy, &attempts);
    tokio::select! {
        () = overdue => crate::stderr::line("polyqueue: stopped, though the broker does not answer; what it was not told of comes back"),
        done = work(args, worker, &attempts.progress, &ending) => done?,
        () = second => return Err(Exit::Failed("stopped twice: running commands were ended, their messages come back".into())),
    }
    attempts.breaker.given_up().map_or(Ok(()), |why| Err(Exit::Failed(why)))
}

/// Until the end; once more where commands that were counted at their beginning could not be run.
async fn work(
    args: &Work,
    worker: impl Fn() -> Worker,
    progress: &Progress,
    ending: &Arc<Ending>,
) -> Result<()> {
    let (mut acked, mut retried, mut died) = (0, 0, 0);
    loop {
        let end = ending.clone();
        let report = worker().run(args.queues.clone(), async move { end.begun().await }).await?;
        (acked, retried, died) = (acked + report.acked, retried + report.retried, died + report.died);
        if !(progress.is_short() && ending.resume()) {
            crate::stderr::line(format!("polyqueue: {acked} acked, {retried} retried, {died} dead"));
            return Ok(());
        }
    }
}

fn worker(queue: &Arc<dyn Queue>, args: &Work, policy: &RetryPolicy, attempts: &Arc<Attempts>) -> Worker {
    let attempts = attempts.clone();
    Worker::new(queue.clone())
        .concurrency(args.concurrency.into())
        .lease(args.lease)
        .retry(policy.clone())
        .stop_deadline(STOP_DEADLINE)
        .on_others(move |job| attempts.clone().at(job))
}
