//! Workers in cases: started, watched, and stopped.

use std::any::Any;
use std::panic::resume_unwind;

use polyqueue::{Bytes, HandlerOptions, Job, QueueName, Report, Worker, with};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::arrival::patience;
use crate::{Env, Fail, Outcome};

/// A worker that runs, until it is told to stop.
#[derive(Debug)]
pub(super) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<polyqueue::Result<Report>>,
}

impl Running {
    pub(super) fn start(worker: Worker, queues: &[QueueName]) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(worker.run(queues.to_vec(), stopped)) }
    }

    pub(super) async fn stop(self) -> Result<Report, Fail> {
        drop(self.stop);
        self.task.await.map_err(|panic| panic.to_string())?.map_err(Fail::from)
    }
}

/// Panics with this payload as a handler might, past the hook that would print it as if something had gone wrong.
pub(super) fn panics(payload: impl Any + Send) -> ! {
    resume_unwind(Box::new(payload))
}

/// How a handler ends.
#[derive(Debug)]
pub(super) enum Ending {
    Done,
    Panics,
}

/// A handler that has started and waits. Dropping it lets the handler end well.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) job: Job<Bytes>,
    end: oneshot::Sender<Ending>,
}

impl Started {
    pub(super) fn end(self, ending: Ending) -> Outcome {
        self.end.send(ending).map_err(|_| Fail::from("the handler is gone"))
    }
}

/// Where handlers report that they start, in their order. Dropping it lets all end well.
#[derive(Debug)]
pub(super) struct Starts {
    report: mpsc::UnboundedSender<Started>,
    reported: mpsc::UnboundedReceiver<Started>,
}

impl Starts {
    pub(super) fn new() -> Self {
        let (report, reported) = mpsc::unbounded_channel();
        Self { report, reported }
    }

    /// The worker, with a handler that reports here and waits to be told how to end.
    pub(super) fn of(&self, worker: Worker) -> Worker {
        let handler = with(self.report.clone(), async |report, job: Job<Bytes>| {
            let (end, ended) = oneshot::channel();
            drop(report.send(Started { job, end }));
            match ended.await {
                Ok(Ending::Panics) => panics("this handler was told to panic"),
                Ok(Ending::Done) | Err(_) => Ok(()),
            }
        });
        worker.on_others_with(handler, HandlerOptions::new())
    }

    /// The next handler that starts; fails when none does.
    pub(super) async fn next(&mut self, env: &Env) -> Result<Started, Fail> {
        match timeout(patience(env), self.reported.recv()).await {
            Ok(Some(started)) => Ok(started),
            _ => Err("no handler started".into()),
        }
    }

    /// Whether no handler has started that [`Starts::next`] has not told of.
    pub(super) fn none(&self) -> bool {
        self.reported.is_empty()
    }
}
