//! The catalogue, read as it is written, for who publishes to topics.

use crate::topology::lookup::up_to_date;
use crate::topology::state::{Topology, Watcher};
use std::sync::Arc;
use std::sync::Weak;

use polyqueue::Result;

/// Sees to it that we know what the catalogue said a moment ago; `exact`: by all that was confirmed before.
pub(crate) async fn read_catalogue(topology: &Arc<Topology>, exact: bool) -> Result<()> {
    if exact || !topology.catalogue.is_live() {
        up_to_date(topology).await?;
        follow_catalogue(topology);
    }
    Ok(())
}

/// Sees to it that the catalogue is read as it is written, from a moment from now on.
pub(crate) fn follow_catalogue(topology: &Arc<Topology>) {
    let mut follower = topology.follower.lock();
    if follower.as_ref().is_none_or(|Watcher(task)| task.is_finished()) {
        *follower = Some(Watcher::spawn(topology, follow(Arc::downgrade(topology))));
    }
}

/// Keeps the catalogue live until the connection ends.
async fn follow(topology: Weak<Topology>) {
    let Some(topology) = topology.upgrade() else { return };
    let catalogue = topology.catalogue.clone();
    let begun = catalogue.begin_to_follow(topology.handle.control()).await;
    // The task must not keep its handle alive.
    drop(topology);
    let followed = match begun {
        Ok(reader) => catalogue.follow(reader).await,
        Err(error) => Err(error),
    };
    if let Err(error) = followed {
        tracing::debug!(name: "rabbitmq.catalogue_not_followed", %error, "what other clients declare is not followed for now");
    }
}
