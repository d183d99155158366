//! One message: whether its command may begin, its run, and what becomes of the message.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Bytes, Failure, Job, Message, Queue, QueueExt};
use tokio::time::timeout;

use crate::stderr;

use super::breaker::Breaker;
use super::command;
use super::fault::Fault;
use super::progress::{Progress, Run};

/// What is done with each message.
pub(crate) struct Attempts {
    pub(crate) shell: String,
    pub(crate) timeout: Option<Duration>,
    /// Where replies go, if they are asked for.
    pub(crate) replies: Option<Arc<dyn Queue>>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) progress: Arc<Progress>,
}

impl Attempts {
    pub(crate) async fn at(self: Arc<Self>, job: Job<Bytes>) -> Result<(), Failure> {
        let mut run = self.progress.enter(&job);
        let outcome = self.attempt(&mut run, &job).await;
        run.ended(&outcome);
        outcome
    }

    async fn attempt(&self, run: &mut Run, job: &Job<Bytes>) -> Result<(), Failure> {
        let given_back = Err(Failure::Snooze(Duration::ZERO));
        let Some(began) = self.breaker.pass().await else { return given_back };
        if !run.begin() {
            return given_back;
        }
        match self.in_time(job).await {
            Err(Fault::CannotRun(why)) => Err(Failure::Snooze(self.breaker.could_not_run(began, why))),
            Err(Fault::Failed(failure)) => {
                self.breaker.could_run();
                Err(failure)
            }
            Ok(()) => {
                self.breaker.could_run();
                Ok(())
            }
        }
    }

    /// The worker's own timeout would count the breaker's pause as well.
    async fn in_time(&self, job: &Job<Bytes>) -> Result<(), Fault> {
        let Some(limit) = self.timeout else { return self.execute(job).await };
        let late = |_| Err(Fault::Failed(format!("the command timed out after {limit:?}").into()));
        timeout(limit, self.execute(job)).await.unwrap_or_else(late)
    }

    async fn execute(&self, job: &Job<Bytes>) -> Result<(), Fault> {
        match &self.replies {
            None => command::run(&self.shell, job).await,
            Some(queue) => {
                let printed = command::ask(&self.shell, job).await?;
                answer(&**queue, job, printed).await;
                Ok(())
            }
        }
    }
}

/// Sends what the command printed to who asked. A reply that cannot be sent is said and no failure: the work is done.
async fn answer(queue: &dyn Queue, job: &Job<Bytes>, printed: Bytes) {
    if let Err(error) = queue.reply(&job.message, Message::new(printed)).await {
        stderr::line(format!("polyqueue: {}: its reply was not sent: {error}", job.message.id()));
    }
}
