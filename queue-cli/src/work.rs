//! `polyqueue work`: xargs for queues.

mod command;
mod environment;
mod line;
mod process_group;
mod progress;
mod stderr;
mod stdout;

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Bytes, Failure, Job, Message, Queue, QueueExt, RetryPolicy, Worker};

use crate::args::Work;
use crate::exit::{Exit, Result};
use crate::{broker, stop};
use line::say;
use progress::Progress;

/// A graceful stop lets running commands finish, however long they take; a second signal ends them.
const STOP_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) async fn run(queue: &Arc<dyn Queue>, args: &Work) -> Result<()> {
    broker::ensure_declared(&**queue, args.queue.clone()).await?;
    let policy = RetryPolicy::new(args.max_attempts.get(), args.backoff.clone())?;
    let progress = Arc::new(Progress::new(args.max, policy.clone()));
    let mut worker = Worker::new(queue.clone())
        .concurrency(args.concurrency.into())
        .lease(args.lease)
        .retry(policy)
        .stop_deadline(STOP_DEADLINE)
        .on_others(handler(queue, args, progress.clone()));
    if let Some(timeout) = args.timeout {
        worker = worker.timeout(timeout);
    }
    let (first, second) = (stop::requested()?, stop::requested_twice()?);
    let enough = progress.enough(args.until_empty.then(|| (queue.clone(), args.queue.clone())));
    let stop = async move {
        tokio::select! {
            () = first => {}
            () = enough => {}
        }
    };
    let report = tokio::select! {
        report = worker.run([args.queue.clone()], stop) => report?,
        () = second => return Err(Exit::Failed("stopped twice: running commands were ended, their messages come back".into())),
    };
    say(&format!("polyqueue: {} acked, {} retried, {} dead", report.acked, report.retried, report.died));
    Ok(())
}

fn handler(
    queue: &Arc<dyn Queue>,
    args: &Work,
    progress: Arc<Progress>,
) -> impl Fn(Job<Bytes>) -> futures_util::future::BoxFuture<'static, Result<(), Failure>> + Send + Sync + 'static
{
    let shell = Arc::<str>::from(args.exec.as_str());
    let answers = args.reply.then(|| queue.clone());
    move |job| {
        let (shell, progress, answers) = (shell.clone(), progress.clone(), answers.clone());
        Box::pin(async move {
            let Some(mut run) = progress.start(&job) else {
                return Err(Failure::Snooze(Duration::ZERO));
            };
            let outcome = match answers {
                None => command::run(&shell, &job).await,
                Some(queue) => answer(&*queue, &shell, &job).await,
            };
            run.ended(&outcome);
            outcome
        })
    }
}

/// Runs the command and sends what it printed to who asked. A reply that cannot be sent is said and no failure: the work is
/// done.
async fn answer(queue: &dyn Queue, shell: &str, job: &Job<Bytes>) -> Result<(), Failure> {
    let printed = command::ask(shell, job).await?;
    if let Err(error) = queue.reply(&job.message, Message::new(printed)).await {
        say(&format!("polyqueue: {}: its reply was not sent: {error}", job.message.id()));
    }
    Ok(())
}
