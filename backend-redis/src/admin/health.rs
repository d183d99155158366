//! A look at the server, and at whether what reads makes progress.

use std::time::Duration;

use polyqueue::backend::Deadline;
use polyqueue::{Health, QueueName};
use tokio::time::timeout;

use crate::address::NAME;
use crate::admin::stats::stats;
use crate::connection::handle::Handle;

/// How long a look at the server's health may take.
const HEALTH: Duration = Duration::from_millis(900);

pub(crate) async fn health(handle: &Handle) -> Health {
    let look = async {
        let answered = handle.node.probe(Deadline::new("health", HEALTH)).await;
        answered.map_err(|error| error.to_string())?;
        if let Some(overdue) = handle.node.answers.overdue() {
            return Err(format!("{}: {overdue}", handle.node));
        }
        let ready = async |queue: QueueName| stats(handle, &queue).await.ok().map(|stats| stats.ready);
        handle.watch.standing_still(ready).await.map_or(Ok(()), Err)
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
