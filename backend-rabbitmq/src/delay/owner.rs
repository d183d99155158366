//! Whose a message is that came back, for no queue of its address was there.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::Result;
use polyqueue::backend::EventSender;

use crate::connection::handle::Handle;
use crate::topology::catalogue::Catalogue;
use crate::topology::records::AddressOwner;
use crate::wire::delay::Ticket;
use crate::wire::names::Names;

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

/// How many catalogues are kept, read as far as they were.
const KEPT: usize = 16;

/// Says whose messages are, of whatever namespace.
pub(crate) struct Owners {
    handle: Arc<Handle>,
    catalogues: Mutex<HashMap<String, Arc<Catalogue>>>,
}

impl Owners {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { handle, catalogues: Mutex::default() }
    }

    /// Whose these messages of one namespace are; its catalogue is read once for all.
    pub(crate) async fn of(&self, namespace: &str, tickets: Vec<Ticket>) -> Result<Vec<Owner>> {
        let names = Names::new(namespace.to_owned());
        let catalogue = self.catalogue(namespace, &names);
        catalogue.refresh(self.handle.control()).await?;
        let owner = |ticket: Ticket| match catalogue.whose(&ticket.address) {
            AddressOwner::Queue(queue) => Owner::Queue(names.ready(&queue)),
            AddressOwner::Deleted => Owner::Deleted,
            AddressOwner::Nobody => Owner::Nobody,
        };
        Ok(tickets.into_iter().map(owner).collect())
    }

    fn catalogue(&self, namespace: &str, names: &Names) -> Arc<Catalogue> {
        let mut kept = self.catalogues.lock();
        if kept.len() >= KEPT && !kept.contains_key(namespace) {
            kept.clear();
        }
        let new = || Arc::new(Catalogue::new(names.catalogue(), EventSender::new(namespace)));
        kept.entry(namespace.to_owned()).or_insert_with(new).clone()
    }
}
