//! The look at what a handle knows, every few seconds: another may have noticed a loss, or nobody.

use std::sync::{Arc, Weak};
use std::time::Duration;

use polyqueue::backend::{Deadline, Jitter, Lifecycle, background};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::topology::revival::Revival;

/// How often it looks, so that a loss is mended within five seconds …
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// … and how much later by chance: many handles do not look in the same instant.
const CHANCE: Duration = Duration::from_millis(1_000);
/// How long a look may take, with what it leads to.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// Looks until it is dropped.
pub(crate) struct Watch(AbortHandle);

impl Watch {
    pub(crate) fn start(revival: &Arc<Revival>, lifecycle: Lifecycle) -> Self {
        let revival = Arc::downgrade(revival);
        let task = async move {
            tokio::select! {
                () = lifecycle.closing() => {}
                () = look_again_and_again(revival) => {}
            }
        };
        Self(background().spawn(task).abort_handle())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn look_again_and_again(revival: Weak<Revival>) {
    let chance = Jitter::default();
    loop {
        sleep(chance.between(LOOK_EVERY, CHANCE)).await;
        let Some(revival) = revival.upgrade() else { return };
        if let Err(error) = revival.restore(Deadline::new("looking after queues", LOOK_WITHIN)).await {
            tracing::debug!(name: "redis.look_failed", %error, "whether the queues are there could not be seen, and is looked at again");
        }
    }
}
