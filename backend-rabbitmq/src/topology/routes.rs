//! The ways to a queue, which the broker takes away with it: what leads nowhere comes back.

use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use polyqueue::{Error, QueueName, Result};
use tokio::time::{Instant, sleep};

use crate::connection::change::Change;
use crate::connection::fault::if_there;
use crate::connection::request::{Confirm, PublishRequest};
use crate::topology::follow::{learn, read_if_readable};
use crate::topology::records::{CatalogueEntry, fresh_address};
use crate::topology::state::Topology;
use crate::wire::delay::DUE;
use crate::wire::names::{SINK, by_address, by_name, ended, lives};

/// How long a queue may be there that its declaration has not listed yet, and how often to look.
const BEING_LISTED: Duration = Duration::from_millis(300);
const AGAIN: Duration = Duration::from_millis(30);

/// Whether the namespace has its entry: asked once a connection. Whoever publishes to an exchange that is missing ends the channel
/// for all.
pub(crate) async fn can_enter(topology: &Arc<Topology>) -> Result<bool> {
    let entry = topology.names.entry();
    if topology.handle.publisher().await?.knows(&entry) {
        return Ok(true);
    }
    let found = has_exchange(topology, &entry).boxed().await?;
    if found {
        drop(learn(topology, false));
    }
    Ok(found)
}

/// Whether there is such an exchange: asked once a connection.
pub(crate) async fn has_exchange(topology: &Topology, exchange: &str) -> Result<bool> {
    let publisher = topology.handle.publisher().await?;
    if publisher.knows(exchange) {
        return Ok(true);
    }
    let found = if_there(topology.handle.control().find_exchange(exchange).await)?.is_some();
    if found {
        publisher.remember(exchange.to_owned());
    }
    Ok(found)
}

/// Whether this key leads anywhere. Only for keys that lead to what keeps nothing.
pub(crate) async fn leads(topology: &Arc<Topology>, key: String) -> Result<bool> {
    if !can_enter(topology).await? {
        return Ok(false);
    }
    let (exchange, properties) = (topology.names.entry(), BasicProperties::default());
    let asked = PublishRequest { exchange, key, properties, body: Default::default() };
    match topology.handle.store(asked).await {
        Ok(confirm) => Ok(matches!(confirm, Confirm::Stored)),
        // The exchange has gone since it was seen.
        Err(error) => {
            if can_enter(topology).await? {
                Err(error)
            } else {
                Ok(false)
            }
        }
    }
}

/// Whether a queue of the broker is there.
pub(crate) async fn exists(topology: &Topology, object: &str) -> Result<bool> {
    Ok(if_there(topology.handle.control().messages(object).await)?.is_some())
}

/// The address of the life that goes on at this moment.
///
/// # Errors
/// `NotFound` when there is none.
pub(crate) async fn address_now(topology: &Arc<Topology>, queue: &QueueName) -> Result<Arc<str>> {
    let listed = |topology: &Topology| topology.catalogue.entry(queue).map(|entry| entry.address);
    let first: Arc<str> = topology.names.first_address(queue).into();
    let mut tried: Vec<Arc<str>> = Vec::new();
    for address in [listed(topology), topology.adopted(queue), Some(first.clone())].into_iter().flatten() {
        if !tried.contains(&address) {
            if leads(topology, lives(&address)).await? {
                return Ok(address);
            }
            tried.push(address);
        }
    }
    if let Some(entry) = listed_soon(topology, queue, BEING_LISTED).await? {
        if !exists(topology, &topology.names.ready(queue)).await? {
            return Err(Error::not_found(queue.clone()));
        }
        restore(topology, &entry).await?;
        return Ok(entry.address);
    }
    if !exists(topology, &topology.names.ready(queue)).await? {
        return Err(Error::not_found(queue.clone()));
    }
    adopt(topology, queue, first).await
}

/// The queue, as it is listed now or, where it is there and is not, soon: whoever declares it makes it first. None where the listing
/// cannot be read: what was known of it before may be of another life.
pub(crate) async fn listed_soon(
    topology: &Arc<Topology>,
    queue: &QueueName,
    within: Duration,
) -> Result<Option<CatalogueEntry>> {
    let until = Instant::now() + within;
    loop {
        if !read_if_readable(topology).await {
            return Ok(None);
        }
        if let Some(entry) = topology.catalogue.entry(queue) {
            return Ok(Some(entry));
        }
        if topology.catalogue.being_deleted(queue).is_some()
            || topology.catalogue.lost(queue).is_some()
            || Instant::now() >= until
            || !exists(topology, &topology.names.ready(queue)).await?
        {
            return Ok(None);
        }
        sleep(AGAIN).await;
    }
}

/// Gives a queue that nobody has listed an address. It goes with the queue.
async fn adopt(topology: &Arc<Topology>, queue: &QueueName, first: Arc<str>) -> Result<Arc<str>> {
    let address = if leads(topology, ended(&first)).await? { fresh_address() } else { first };
    let mut changes = entries(topology);
    changes.extend(of_address(topology, queue, &address));
    let (ready, exchange) = (topology.names.ready(queue), topology.names.entry());
    changes.push(Change::Bind { queue: ready, exchange, pattern: by_address(&address) });
    topology.handle.control().change(changes).await?;
    topology.catalogue.note_unlisted(queue);
    topology.forget_dead_end(&address);
    topology.adopt(queue.clone(), address.clone());
    Ok(address)
}

/// Makes the ways to a queue again, where they are not all there.
pub(crate) async fn restore(topology: &Arc<Topology>, entry: &CatalogueEntry) -> Result<()> {
    let mut changes = Vec::new();
    if !leads(topology, lives(&entry.address)).await? {
        changes.extend(entries(topology));
        changes.extend(of_address(topology, entry.name(), &entry.address));
    }
    changes.extend(of_name(topology, entry));
    topology.handle.control().change(changes).await?;
    topology.forget_dead_end(&entry.address);
    Ok(())
}

/// What lies before all queues of the namespace.
pub(crate) fn entries(topology: &Topology) -> Vec<Change> {
    let sink = SINK.to_owned();
    let mut keeps_nothing = FieldTable::default();
    keeps_nothing.insert("x-max-length".into(), AMQPValue::LongLongInt(0));
    let exchange = |name: String, kind| Change::Exchange { name, kind, arguments: FieldTable::default() };
    vec![
        exchange(topology.names.entry(), ExchangeKind::Direct),
        exchange(sink.clone(), ExchangeKind::Fanout),
        Change::Queue { name: sink.clone(), arguments: keeps_nothing },
        Change::Bind { queue: sink.clone(), exchange: sink, pattern: String::new() },
    ]
}

/// The exchange that leads what is due to its queue.
pub(crate) fn due_exchange() -> Change {
    let arguments = FieldTable::default();
    Change::Exchange { name: DUE.to_owned(), kind: ExchangeKind::Direct, arguments }
}

/// The ways of what waits for the queue at this address, and of who asks whether it is there.
pub(crate) fn of_address(topology: &Topology, queue: &QueueName, address: &str) -> Vec<Change> {
    let (names, ready, gate) = (&topology.names, topology.names.ready(queue), topology.names.gate(address));
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), AMQPValue::LongString(SINK.into()));
    let due = Change::Bind { queue: ready.clone(), exchange: DUE.to_owned(), pattern: address.to_owned() };
    vec![
        due_exchange(),
        due,
        Change::OwnedExchange { name: gate.clone(), arguments },
        Change::Bind { queue: ready, exchange: gate.clone(), pattern: "life".into() },
        Change::BindExchange { exchange: gate, source: names.entry(), pattern: lives(address) },
    ]
}

/// The way by name, to a queue that asks nothing of who publishes, and the way by address.
pub(crate) fn of_name(topology: &Topology, entry: &CatalogueEntry) -> Vec<Change> {
    let bind = |pattern| Change::Bind {
        queue: topology.names.ready(entry.name()),
        exchange: topology.names.entry(),
        pattern,
    };
    let name = (!entry.is_careful()).then(|| bind(by_name(entry.name())));
    [Some(bind(by_address(&entry.address))), name].into_iter().flatten().collect()
}
