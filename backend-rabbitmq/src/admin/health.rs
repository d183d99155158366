//! Whether calls can be expected to succeed now.

use std::time::Duration;

use polyqueue::{Health, QueueName};
use tokio::time::{Instant, timeout};

use crate::address::NAME;
use crate::connection::fault::if_there;
use crate::delay::standstill::standstill;
use crate::publish::state::Publishing;

/// Health answers within a second.
const HEALTH: Duration = Duration::from_millis(900);

/// Tries both connections, looks whether what reads makes progress, and says what lies where nobody finds it.
pub(crate) async fn health(publishing: &Publishing) -> Health {
    let topology = &publishing.topology;
    let by = Instant::now() + HEALTH;
    let look = async {
        if let Some(blocked) = topology.handle.blocked() {
            return Err(blocked.to_string());
        }
        if let Some(overdue) = topology.handle.overdue() {
            return Err(format!("{}: {overdue}", topology.handle.address));
        }
        topology.handle.probe(by).await.map_err(|error| error.to_string())?;
        let ready = async |queue: QueueName| {
            if_there(topology.handle.control().messages(&topology.names.ready(&queue)).await).ok().flatten()
        };
        topology.handle.watch.standing_still(ready).await.map_or(Ok(()), Err)?;
        // Who cannot be asked about delays has another trouble.
        Ok(standstill(&publishing.wheel).await.unwrap_or_default())
    };
    match timeout(HEALTH, look).await {
        Ok(Ok(standstill)) => {
            let mut health = Health::good(NAME);
            let stranded = publishing.wheel.shared.stranded(topology.names.namespace());
            if let Some(said) = standstill {
                health.detail = said;
            } else if stranded > 0 {
                health.detail = format!("{stranded} delayed messages are due, and nobody knows their queue");
            }
            health
        }
        Ok(Err(detail)) => Health::bad(NAME, detail),
        Err(_) => Health::bad(NAME, format!("{}: no answer within a second", topology.handle.address)),
    }
}
