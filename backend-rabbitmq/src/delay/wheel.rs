//! The wheel of one client, for all its namespaces: begun by the first who needs it, and ended with the last.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::backend::{Jitter, background};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::connection::handle::Handle;
use crate::delay::ending::Ending;
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

/// Tells a task to end when it is dropped: what is on its way comes to its end first.
struct Task(#[expect(dead_code, reason = "held")] watch::Sender<()>);

impl Task {
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        handle: Arc<Handle>,
        work: impl FnOnce(Ending) -> F,
    ) -> Self {
        let (ending, alive) = Ending::new(handle);
        background().spawn(work(ending));
        Self(alive)
    }
}

impl Wheel {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { shared: Arc::default(), handle, task: Mutex::default(), watch: Mutex::default() }
    }

    /// Begins to know the broker's time, and to stand by for moving what is due, unless it has.
    pub(crate) fn start(&self) {
        self.shared.use_it();
        self.know_the_time();
    }

    /// Begins to know the broker's time, unless it has.
    fn know_the_time(&self) {
        let mut task = self.task.lock();
        if task.is_none() {
            let (shared, handle) = (self.shared.clone(), self.handle.clone());
            *task = Some(Task::spawn(self.handle.clone(), |ending| run(shared, handle, ending)));
        }
    }

    /// For who consumes: knows the broker's time, which the first retry needs at once, and begins once anybody delays in this virtual
    /// host, for it may be the only one that is alive then.
    pub(crate) fn stand_by_if_used(self: &Arc<Self>) {
        self.know_the_time();
        let mut watch = self.watch.lock();
        if watch.is_none() && !self.is_started() {
            let (wheel, handle) = (Arc::downgrade(self), self.handle.clone());
            *watch = Some(Task::spawn(self.handle.clone(), |ending| watch_for_use(wheel, handle, ending)));
        }
    }

    /// Whether it stands by for moving what is due.
    pub(crate) fn is_started(&self) -> bool {
        self.shared.is_used()
    }
}

async fn watch_for_use(wheel: Weak<Wheel>, handle: Arc<Handle>, ending: Ending) {
    let queue = [LOOK_QUEUE.to_owned()];
    let jitter = Jitter::default();
    loop {
        let asked = async {
            let publisher = handle.publisher().await?;
            missing(&publisher, &queue, handle.until()).await
        };
        let asked = tokio::select! {
            asked = asked => asked,
            () = ending.ended() => return,
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
            () = ending.ended() => return,
        }
    }
}
