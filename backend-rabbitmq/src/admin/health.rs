//! Whether calls can be expected to succeed now.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use polyqueue::Health;
use tokio::time::{Instant, timeout};

use crate::address::NAME;
use crate::topology::state::Topology;

/// Health answers within a second.
const HEALTH: Duration = Duration::from_millis(900);

/// Tries both connections, and says what lies where nobody finds it.
pub(crate) async fn health(topology: &Topology) -> Health {
    let by = Instant::now() + HEALTH;
    match timeout(HEALTH, topology.handle.probe(by)).await {
        Ok(Ok(())) => {
            let mut health = Health::good(NAME);
            let stranded = topology.stranded.load(Relaxed);
            if stranded > 0 {
                health.detail = format!(
                    "{stranded} delayed messages lie in polyqueue.unrouted: nobody knows their queue"
                );
            }
            health
        }
        Ok(Err(error)) => Health::bad(NAME, error.to_string()),
        Err(_) => Health::bad(NAME, format!("{}: no answer within a second", topology.handle.address)),
    }
}
