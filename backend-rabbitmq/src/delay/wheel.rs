//! The wheel of one client, for all its namespaces: begun by the first who needs it, and ended with the last.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::backend::{Jitter, background};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::connection::handle::Handle;
use crate::delay::ensure::missing;
use crate::delay::mover::run;
use crate::delay::shared::Shared;
use crate::wire::delay::LOOK as LOOK_QUEUE;

/// How often it is looked whether anybody delays, at least.
const USED: Duration = Duration::from_secs(4);

/// What delays, and moves what is due when it is this client's turn.
pub(crate) struct Wheel {
    pub(crate) shared: Arc<Shared>,
    /// The handle that was opened first: the others end with it.
    pub(crate) handle: Arc<Handle>,
    task: Mutex<Option<Task>>,
    /// Looks whether anybody delays.
    watch: Mutex<Option<Task>>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wheel {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { shared: Arc::default(), handle, task: Mutex::default(), watch: Mutex::default() }
    }

    /// Begins to know the broker's time, and to stand by for moving what is due, unless it has.
    pub(crate) fn start(&self) {
        let mut task = self.task.lock();
        if task.is_none() {
            *task = Some(Task(background().spawn(run(self.shared.clone(), self.handle.clone()))));
        }
    }

    /// Begins once anybody delays in this virtual host, for who consumes and may be the only one that is alive then.
    pub(crate) fn stand_by_if_used(self: &Arc<Self>) {
        let mut watch = self.watch.lock();
        if watch.is_none() && !self.is_started() {
            *watch = Some(Task(background().spawn(watch_for_use(Arc::downgrade(self), self.handle.clone()))));
        }
    }

    /// Whether it was begun.
    pub(crate) fn is_started(&self) -> bool {
        self.task.lock().is_some()
    }
}

async fn watch_for_use(wheel: Weak<Wheel>, handle: Arc<Handle>) {
    let queue = [LOOK_QUEUE.to_owned()];
    let jitter = Jitter::default();
    loop {
        let asked = async {
            let publisher = handle.publisher().await?;
            missing(&publisher, &queue, handle.until()).await
        };
        let asked = tokio::select! {
            asked = asked => asked,
            () = handle.closed() => return,
        };
        let Some(wheel) = wheel.upgrade() else { return };
        if wheel.is_started() {
            return;
        }
        if asked.is_ok_and(|missing| missing.is_empty()) {
            return wheel.start();
        }
        drop(wheel);
        tokio::select! {
            () = sleep(jitter.between(USED, USED)) => {}
            () = handle.closed() => return,
        }
    }
}
