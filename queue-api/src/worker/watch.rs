//! The worker asks for its queue's health by itself: what stands still is in the log, whoever else looks or not.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::background::background_by_the_same_clock;
use crate::{Health, Queue};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// A backend answers within a second; one that does not in this time never will.
const ANSWER: Duration = Duration::from_secs(5);

/// Looks for as long as it lives.
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    pub(super) fn begin(queue: Arc<dyn Queue>) -> Self {
        Self(background_by_the_same_clock().spawn(look(queue)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One line for each change.
async fn look(queue: Arc<dyn Queue>) {
    let (mut last_good, mut is_good) = (Instant::now(), true);
    loop {
        sleep(EVERY).await;
        let asked = Instant::now();
        let health = timeout(ANSWER, queue.health()).await.unwrap_or_else(|_| unanswered(&*queue));
        match (is_good, health.healthy) {
            (true, false) => {
                let (provider, detail, last_good_ago) =
                    (health.provider, &health.detail, last_good.elapsed());
                tracing::warn!(name: "worker.unhealthy", provider, detail, ?last_good_ago, "the queue is not well: {detail}");
            }
            (false, true) => {
                let (provider, last_good_ago) = (health.provider, last_good.elapsed());
                tracing::info!(name: "worker.healthy", provider, ?last_good_ago, "the queue is well again");
            }
            _ => {}
        }
        is_good = health.healthy;
        if is_good {
            last_good = asked;
        }
    }
}

fn unanswered(queue: &dyn Queue) -> Health {
    Health::bad(queue.info().provider, format!("its health was not told within {ANSWER:?}"))
}
