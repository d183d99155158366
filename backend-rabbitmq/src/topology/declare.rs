//! Making the broker objects behind one queue, and binding it.

use std::sync::Arc;

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use polyqueue::{Certainty, Error, Pattern, QueueName, QueueSpec, Result};

use crate::address::NAME;
use crate::connection::change::Change;
use crate::connection::fault::{Answer, Refusal, if_there};
use crate::topology::create_catalogue::append;
use crate::topology::dedup_queues::declare_keys;
use crate::topology::delete::{clear_former, finish};
use crate::topology::follow::up_to_date;
use crate::topology::known::AddressOwner;
use crate::topology::lookup::entry;
use crate::topology::records::{CatalogueEntry, Record, fresh_address};
use crate::topology::routes::{due_exchange, entries, exists, has_exchange, leads, of_address, of_name};
use crate::topology::state::Topology;
use crate::wire::delay::DUE;
use crate::wire::names::{ended, lives};

/// How often a declaration begins anew that another's deletion has got into.
const ATTEMPTS: u32 = 3;

/// Makes a queue, or adds bindings to the one that is there.
///
/// # Errors
/// `Invalid` when it is there and was declared to be something else.
pub(crate) async fn declare(topology: &Arc<Topology>, spec: &QueueSpec) -> Result<()> {
    declare_after(topology, spec, None).await
}

/// The same, at any address but that of its former life.
pub(crate) async fn declare_after(
    topology: &Arc<Topology>,
    spec: &QueueSpec,
    former: Option<&str>,
) -> Result<()> {
    carry_out(Declaration { topology, spec, former, listed_at: None, is_there: false }).await
}

/// Makes again what is missing of a queue that is listed, unless it was deleted since.
///
/// # Errors
/// `NotFound` when it was.
pub(crate) async fn declare_again(topology: &Arc<Topology>, entry: &CatalogueEntry) -> Result<()> {
    let listed_at = Some(entry.address.clone());
    carry_out(Declaration { topology, spec: &entry.spec, former: None, listed_at, is_there: false }).await
}

async fn carry_out(mut declaration: Declaration<'_>) -> Result<()> {
    let mut attempt = 1;
    loop {
        match declaration.carry_out().await {
            Err(Refusal::Missing(_)) if attempt < ATTEMPTS => {
                attempt += 1;
                declaration.topology.handle.publisher().await?.forget_all();
            }
            done => return Ok(done?),
        }
    }
}

/// One declaration on its way.
struct Declaration<'a> {
    topology: &'a Arc<Topology>,
    spec: &'a QueueSpec,
    former: Option<&'a str>,
    /// Where it must be listed still.
    listed_at: Option<Arc<str>>,
    is_there: bool,
}

impl Declaration<'_> {
    async fn carry_out(&mut self) -> Answer<()> {
        let (topology, name) = (self.topology, &self.spec.name);
        up_to_date(topology).await?;
        if let Some(address) = &self.listed_at
            && topology.catalogue.entry(name).is_none_or(|entry| entry.address != *address)
        {
            return Err(Error::not_found(name.clone()).into());
        }
        if let Some(begun) = topology.catalogue.being_deleted(name) {
            finish(topology, &begun).await?;
        }
        let (ready, dead) = (topology.names.ready(name), topology.names.dead(name));
        let mut listed = topology.catalogue.entry(name);
        let lives_on = async {
            match &listed {
                Some(entry) => leads(topology, lives(&entry.address)).await,
                None => Ok(false),
            }
        };
        // Many queues are declared at a time, and the broker makes what one channel asks for one after the other.
        let channel = topology.handle.control().dedicated();
        // A question with the answer "no" ends its channel.
        let found = async {
            let is_there = exists(topology, &ready).await?;
            Ok((is_there, is_there && exists(topology, &dead).await?))
        };
        let ((is_there, has_both), lives_on, channel) = tokio::try_join!(found, lives_on, channel)?;
        self.is_there = is_there;
        // Somebody has deleted it behind our back: it goes on as another life.
        let former = listed.take_if(|_| !self.is_there);
        if let Some(entry) = &listed {
            self.spec.check_redeclared(&entry.spec)?;
        }
        let is_new = !has_both;
        if is_new {
            channel.change(queues_of(topology, self.spec)).await?;
        }
        let entry = match listed {
            Some(entry) => entry,
            None => {
                let address = self.address(former.as_ref()).await?;
                list(topology, self.spec, address, former.as_ref()).await?
            }
        };
        // Should another attempt be needed, it is this life that must not have been deleted since.
        self.listed_at = self.listed_at.take().map(|_| entry.address.clone());
        if !lives_on && !leads(topology, lives(&entry.address)).await? {
            channel.change(entries(topology)).await?;
            channel.change(of_address(topology, name, &entry.address)).await?;
        }
        channel.change(self.bindings(&entry).await?).await?;
        declare_keys(topology, &entry).await?;
        if let Some(former) = former {
            clear_former(topology, &former).await?;
        }
        list_bindings(topology, &entry, self.spec).await?;
        topology.catalogue.forget_unlisted(name);
        topology.forget_dead_end(&entry.address);
        if !is_new && !self.spec.bindings.is_subset(&entry.spec.bindings) {
            channel.change(kept(topology, name)).await?;
        }
        Ok(())
    }

    /// Where a queue is to be reached that is not listed.
    async fn address(&self, former: Option<&CatalogueEntry>) -> Result<Arc<str>> {
        let (topology, name) = (self.topology, &self.spec.name);
        let first: Arc<str> = topology.names.first_address(name).into();
        if self.is_there
            && let Some(adopted) = topology.adopted(name)
            && leads(topology, lives(&adopted)).await?
        {
            return Ok(adopted);
        }
        // The mark may have gone with the exchange that it was bound to: the listing ignores who declares at an address that has ended.
        let is_used_up = self.former == Some(&*first)
            || former.is_some_and(|former| former.address == first)
            || topology.catalogue.whose(&first) == AddressOwner::Deleted
            || leads(topology, ended(&first)).await?;
        Ok(if is_used_up { fresh_address() } else { first })
    }

    /// What binds a queue to its name, its address and its topics.
    async fn bindings(&self, entry: &CatalogueEntry) -> Answer<Vec<Change>> {
        let (topology, name) = (self.topology, &self.spec.name);
        let (ready, topics) = (topology.names.ready(name), topology.names.topics());
        let bind = |exchange: &str, pattern: &str| Change::Bind {
            queue: ready.clone(),
            exchange: exchange.to_owned(),
            pattern: pattern.to_owned(),
        };
        let mut changes = Vec::new();
        if !has_exchange(topology, DUE).await? {
            changes.push(due_exchange());
        }
        changes.push(bind(DUE, &entry.address));
        if !self.spec.bindings.is_empty() && !has_exchange(topology, &topics).await? {
            let (name, arguments) = (topics.clone(), FieldTable::default());
            changes.push(Change::Exchange { name, kind: ExchangeKind::Topic, arguments });
        }
        changes.extend(self.spec.bindings.iter().map(|pattern| bind(&topics, pattern.as_str())));
        // Last: a crash of the broker may take back what its database did last, and whoever misses these makes them again.
        changes.extend(of_name(topology, entry));
        Ok(changes)
    }
}

/// What is done last where nothing else is that may be taken back by a crash of the broker.
fn kept(topology: &Topology, queue: &QueueName) -> Vec<Change> {
    let last = || (topology.names.ready(queue), topology.names.entry(), "last".to_owned());
    let ((queue, exchange, pattern), (of, from, key)) = (last(), last());
    vec![
        Change::Bind { queue, exchange, pattern },
        Change::Unbind { queue: of, exchange: from, pattern: key },
    ]
}

/// The broker's queues behind a queue.
fn queues_of(topology: &Topology, spec: &QueueSpec) -> Vec<Change> {
    let (ready, dead) = (topology.names.ready(&spec.name), topology.names.dead(&spec.name));
    let kind = topology.queue_type(&spec.name);
    let arguments = [kind.ready_arguments(&dead), kind.dead_arguments()];
    let queue = |(name, arguments)| Change::Queue { name, arguments };
    [ready, dead].into_iter().zip(arguments).map(queue).collect()
}

/// Writes a queue into the catalogue and answers what it says then: another's declaration may have come first.
async fn list(
    topology: &Arc<Topology>,
    spec: &QueueSpec,
    address: Arc<str>,
    former: Option<&CatalogueEntry>,
) -> Answer<CatalogueEntry> {
    append(topology, &Record::declare(spec, address, former)).await?;
    up_to_date(topology).await?;
    // Another may have deleted it in order, or the stream is another one now.
    let entry = topology.catalogue.entry(&spec.name).ok_or_else(|| {
        let said = "the catalogue does not show what was written to it";
        Refusal::Missing(Error::unavailable(NAME, Certainty::Unknown, said))
    })?;
    spec.check_redeclared(&entry.spec)?;
    Ok(entry)
}

/// Writes the bindings that are new into the catalogue.
async fn list_bindings(topology: &Arc<Topology>, entry: &CatalogueEntry, spec: &QueueSpec) -> Result<()> {
    let new: Vec<_> = spec.bindings.difference(&entry.spec.bindings).cloned().collect();
    for pattern in new {
        let (queue, address) = (spec.name.to_string(), entry.address.clone());
        list_binding(topology, Record::Bind { queue, address, pattern }).await?;
    }
    Ok(())
}

/// Writes a record about a binding, and acts by it at once: what it says does not depend on what others write.
async fn list_binding(topology: &Arc<Topology>, record: Record) -> Result<()> {
    append(topology, &record).await?;
    topology.catalogue.apply(record);
    Ok(())
}

/// Removes a binding, here and in the catalogue.
pub(crate) async fn unbind(topology: &Arc<Topology>, queue: &QueueName, pattern: &Pattern) -> Result<()> {
    up_to_date(topology).await?;
    let listed = topology.catalogue.entry(queue);
    if listed.as_ref().is_some_and(|entry| !entry.spec.bindings.contains(pattern)) {
        return Ok(());
    }
    let entry = entry(topology, queue).await?;
    let (ready, topics) = (topology.names.ready(queue), topology.names.topics());
    let gone = Change::Unbind { queue: ready, exchange: topics, pattern: pattern.to_string() };
    if_there(topology.handle.control().change(vec![gone]).await)?;
    let (queue, address) = (queue.to_string(), entry.address);
    list_binding(topology, Record::Unbind { queue, address, pattern: pattern.clone() }).await
}
