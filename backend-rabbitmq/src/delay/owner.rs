//! Whose a message is that came back, for no queue of its address was there.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::Result;

use crate::connection::handle::Handle;
use crate::topology::follow::up_to_date;
use crate::topology::known::AddressOwner;
use crate::topology::routes::leads;
use crate::topology::state::Topology;
use crate::wire::delay::Ticket;
use crate::wire::names::{Names, ended, lives};

/// What is to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It belongs into this queue of the broker.
    Queue(String),
    /// Its queue was deleted, and it with it.
    Deleted,
    /// Nobody knows its queue.
    Nobody,
}

/// How many namespaces are kept.
const KEPT: usize = 16;

/// Says whose messages are, of whatever namespace.
pub(crate) struct Owners {
    handle: Arc<Handle>,
    namespaces: Mutex<HashMap<String, Arc<Topology>>>,
}

impl Owners {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { handle, namespaces: Mutex::default() }
    }

    /// Whose these messages of one namespace are; each address is asked for once.
    pub(crate) async fn of(&self, namespace: &str, tickets: Vec<Ticket>) -> Result<Vec<Owner>> {
        let topology = self.topology(namespace);
        let mut known: HashMap<String, Owner> = HashMap::new();
        let mut owners = Vec::with_capacity(tickets.len());
        for Ticket { address, target, .. } in tickets {
            let owner = match known.get(&address) {
                Some(owner) => owner.clone(),
                None => owner(&topology, &address, target).await?,
            };
            known.insert(address, owner.clone());
            owners.push(owner);
        }
        Ok(owners)
    }

    fn topology(&self, namespace: &str) -> Arc<Topology> {
        let mut kept = self.namespaces.lock();
        if kept.len() >= KEPT && !kept.contains_key(namespace) {
            kept.clear();
        }
        let new = || Arc::new(Topology::new(self.handle.clone(), Names::new(namespace.to_owned()), false));
        kept.entry(namespace.to_owned()).or_insert_with(new).clone()
    }
}

/// The routes say whether a life goes on, or was ended; the listing where they have gone.
async fn owner(topology: &Arc<Topology>, address: &str, target: String) -> Result<Owner> {
    if leads(topology, lives(address)).await? {
        return Ok(Owner::Queue(target));
    }
    if leads(topology, ended(address)).await? {
        return Ok(Owner::Deleted);
    }
    up_to_date(topology).await?;
    Ok(match topology.catalogue.whose(address) {
        AddressOwner::Queue(queue) => Owner::Queue(topology.names.ready(&queue)),
        AddressOwner::Deleted => Owner::Deleted,
        AddressOwner::Nobody => Owner::Nobody,
    })
}
