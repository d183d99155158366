//! Whether calls can be expected to succeed now.

use std::pin::pin;
use std::time::Duration;

use polyqueue::{Health, QueueName};
use tokio::time::{Instant, sleep_until, timeout};

use crate::address::NAME;
use crate::connection::fault::if_there;
use crate::delay::standstill::standstill;
use crate::publish::state::Publishing;
use crate::topology::state::Topology;

/// Health answers within a second.
const HEALTH: Duration = Duration::from_millis(900);
/// What of that may go into looking after what is delayed.
const DELAYS: Duration = Duration::from_millis(300);

fn stranded(publishing: &Publishing) -> Option<String> {
    let stranded = publishing.wheel.shared.stranded(publishing.topology.names.namespace());
    (stranded > 0).then(|| format!("{stranded} delayed messages are due, and nobody knows their queue"))
}

fn unlisted(topology: &Topology) -> Option<String> {
    let unlisted = topology.catalogue.unlisted();
    (unlisted > 0).then(|| format!("{unlisted} queues that are used here are not listed: declare them again"))
}

fn unreadable(topology: &Topology) -> Option<String> {
    let over = topology.handle.control().generation();
    topology.catalogue.is_unreadable(over).then(|| {
        let stream = topology.catalogue.name();
        format!(
            "the catalogue, the stream {stream:?}, cannot be read: nothing can be declared, deleted or listed"
        )
    })
}

fn held_too_long(topology: &Topology) -> Option<String> {
    let limit = topology.handle.hold_limit().known()?;
    Some(format!(
        "the broker has ended a consumer for a message that was held longer than {limit:?} (consumer_timeout): leases must be shorter"
    ))
}

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
        // Who cannot be asked about delays has another trouble, or none: a broker that has just started takes a while.
        let delays = timeout(DELAYS, standstill(&publishing.wheel)).await.unwrap_or(Ok(None));
        delays.unwrap_or_default().map_or(Ok(()), Err)
    };
    let mut look = pin!(look);
    let looked = tokio::select! {
        biased;
        looked = &mut look => looked,
        // Before the look is dropped, and with it what it waits for.
        () = sleep_until(by) => {
            let waited = topology.handle.oldest_call();
            let said = waited.unwrap_or_else(|| "no answer within a second".to_owned());
            Err(format!("{}: {said}", topology.handle.address))
        }
    };
    match looked {
        Ok(()) => {
            let unlisted = [unreadable(topology), unlisted(topology)];
            let said = unlisted.into_iter().chain([stranded(publishing), held_too_long(topology)]);
            let said: Vec<String> = said.flatten().collect();
            let mut health = Health::good(NAME);
            health.detail = said.join("; ");
            health
        }
        Err(detail) => Health::bad(NAME, detail),
    }
}
