//! A look at the server, at what it refuses, and at whether what reads makes progress.

use std::time::Duration;

use polyqueue::backend::Deadline;
use polyqueue::{Health, QueueName, Result};
use tokio::time::timeout;

use crate::address::NAME;
use crate::admin::stats::stats;
use crate::connection::handle::Handle;
use crate::connection::probe::{both_answer, takes_messages};
use crate::connection::rights::check_rights;

/// How long a look at the server's health may take.
const HEALTH: Duration = Duration::from_millis(900);

pub(crate) async fn health(handle: &Handle) -> Health {
    let look = async {
        let limit = Deadline::new("health", HEALTH);
        serves(handle, limit).await.map_err(|error| error.to_string())?;
        if let Some(overdue) = handle.node.answers.overdue() {
            return Err(format!("{}: {overdue}", handle.node));
        }
        let ready = async |queue: QueueName| stats(handle, &queue).await.ok().map(|stats| stats.ready);
        let standing_still = handle.watch.standing_still(ready).await;
        // Last, for counting may have been refused.
        refused(handle).or(standing_still).map_or(Ok(()), Err)
    };
    match timeout(HEALTH, look).await {
        Ok(Ok(())) => Health::good(NAME),
        Ok(Err(detail)) => Health::bad(NAME, detail),
        Err(_) => {
            let trouble = handle.node.trouble().map_or("no answer".into(), |error| error.to_string());
            Health::bad(NAME, trouble)
        }
    }
}

/// Whether both connections answer, the server takes messages, and the user may do all that is needed.
async fn serves(handle: &Handle, limit: Deadline) -> Result<()> {
    let node = &handle.node;
    both_answer(node, limit).await?;
    takes_messages(node, &handle.notifier.blocked.block, limit).await?;
    check_rights(node, &handle.namespace, limit).await
}

/// What fails in this namespace.
fn refused(handle: &Handle) -> Option<String> {
    let ours = format!("{}:", handle.namespace);
    handle.node.refusals.latest(|about| about.is_empty() || about.starts_with(&ours))
}
