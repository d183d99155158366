//! A look at the server.

use std::time::Duration;

use polyqueue::Health;
use polyqueue::backend::Deadline;
use tokio::time::timeout;

use crate::address::NAME;
use crate::connection::handle::Handle;

/// How long a look at the server's health may take.
const HEALTH: Duration = Duration::from_millis(900);

pub(crate) async fn health(handle: &Handle) -> Health {
    let limit = Deadline::new("health", HEALTH);
    let node = &handle.node;
    let detail = match timeout(HEALTH, node.probe(limit)).await {
        Ok(Ok(())) => return Health::good(NAME),
        Ok(Err(error)) => error.to_string(),
        Err(_) => node.trouble().map_or("no answer".into(), |error| error.to_string()),
    };
    Health::bad(NAME, detail)
}
