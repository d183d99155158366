//! Dedup keys: one queue of the broker for each, holding a marker with the id of the message that has the key.
//!
//! Whoever looks at a marker holds the queue's only consumer meanwhile, so that of all who want a key one after the other finds
//! out. The marker goes by the broker's clock when the window ends.

use crate::connection::browser::Browser;
use crate::publish::state::Publishing;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join};
use futures_util::stream::StreamExt;
use lapin::BasicProperties;
use lapin::types::FieldTable;
use polyqueue::backend::background;
use polyqueue::{Certainty, Dedup, DedupKey, Error, Message, MessageId, QueueName, Result};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use crate::connection::change::Change;
use crate::connection::control_channel::{ControlChannel, Deliveries};
use crate::connection::fault::{Answer, Refusal};
use crate::connection::publisher::lost;
use crate::connection::request::{Confirm, PublishRequest};
use crate::topology::dedup_queues::{SLACK, kept, millis};
use crate::topology::records::CatalogueEntry;
use crate::wire::terms;

/// How long to wait for another who looks at the same key.
const TAKEN: Duration = Duration::from_millis(4);
/// How long a look at a key may take, others' looks at it included.
const LONGEST: Duration = Duration::from_secs(60);
/// How many keys are freed at once.
const TOGETHER: usize = 16;

/// A key, while nobody else can look at it.
struct HeldMarker {
    object: String,
    marker: Option<BasicProperties>,
    consumer: Deliveries,
    _permit: OwnedSemaphorePermit,
}

impl HeldMarker {
    /// Whose the key is.
    fn holder(&self) -> Option<MessageId> {
        let id = self.marker.as_ref()?.message_id().as_ref()?;
        MessageId::new(id.as_str()).ok()
    }

    async fn free(&self) -> Result<()> {
        let gone = Change::NoQueue { name: self.object.clone() };
        Ok(self.consumer.channel.change(vec![gone]).await?)
    }

    /// Lets others look.
    async fn end(self) {
        self.consumer.channel.end().await;
    }
}

/// Gives a message's dedup key to it. Answers who has it already.
///
/// The work goes on when nobody waits for it any more: a look at a key is not broken off half-way. What was claimed for
/// nobody is freed.
pub(crate) async fn claim(
    publishing: &Arc<Publishing>,
    entry: &CatalogueEntry,
    dedup: Dedup,
    message: &Message,
    key: &str,
) -> Result<Option<MessageId>> {
    let publishing = publishing.clone();
    let (entry, message, key) = (entry.clone(), message.clone(), key.to_owned());
    let (answer, answered) = oneshot::channel();
    background().spawn(async move {
        let claimed = claim_now(&publishing, &entry, &dedup, &message, &key);
        let late = |_| Err(Error::timeout("a look at a dedup key", LONGEST, Certainty::Unknown));
        let claimed = timeout(LONGEST, claimed).await.unwrap_or_else(late);
        if let Err(Ok(None)) = answer.send(claimed) {
            release_key_of(&publishing, &entry, &message).await;
        }
    });
    answered.await.unwrap_or_else(|_| Err(lost()))
}

async fn claim_now(
    publishing: &Arc<Publishing>,
    entry: &CatalogueEntry,
    dedup: &Dedup,
    message: &Message,
    key: &str,
) -> Result<Option<MessageId>> {
    if let Some(store) = &publishing.dedup.store {
        return store.claim(&dedup_key(publishing, entry.name(), key), message.id(), dedup.window).await;
    }
    let object = publishing.topology.names.marker(&entry.address, key);
    let turn = publishing.dedup.turns.of(object.clone());
    let _turn = turn.lock().await;
    let Some(mut hold) = take_hold(publishing, &object, Some(dedup)).await? else { return Err(lost()) };
    if let Some(holder) = hold.holder() {
        if !died_unnoticed(publishing, entry.name(), &hold, &holder).await? {
            hold.end().await;
            return Ok(Some(holder));
        }
        hold.free().await?;
        hold.end().await;
        match take_hold(publishing, &object, Some(dedup)).await? {
            Some(again) => hold = again,
            None => return Err(lost()),
        }
        if let Some(holder) = hold.holder() {
            hold.end().await;
            return Ok(Some(holder));
        }
    }
    let marked = mark(publishing, entry, &hold, message).await;
    if marked.is_err() {
        let _ = hold.free().await;
    }
    hold.end().await;
    marked.map(|()| None)
}

/// Writes the marker; and down where the queue's deletion will find it.
async fn mark(
    publishing: &Arc<Publishing>,
    entry: &CatalogueEntry,
    hold: &HeldMarker,
    message: &Message,
) -> Result<()> {
    let object = &hold.object;
    let publisher = publishing.topology.handle.publisher().await?;
    let marker = PublishRequest {
        exchange: String::new(),
        key: object.clone(),
        properties: marker(message, publishing.topology.handle.now()),
        body: Default::default(),
    };
    let note = PublishRequest {
        exchange: String::new(),
        key: publishing.topology.names.keys(&entry.address),
        properties: BasicProperties::default().with_delivery_mode(2),
        body: object.clone().into(),
    };
    let by = publishing.topology.handle.until();
    let noted = publisher.publish(note, by).await;
    let marked = publisher.publish(marker, by).await;
    let (noted, marked) = join(noted, marked).await;
    for stored in [noted, marked] {
        if let Confirm::Unroutable = stored.unwrap_or_else(|_| Err(lost()))? {
            return Err(Error::not_found(entry.name().clone()));
        }
    }
    let changes = kept(&publishing.topology.names, object.clone());
    Ok(hold.consumer.channel.change(changes.into()).await?)
}

/// Takes hold of a key. `None` when it is free and nobody wants to claim it.
async fn take_hold(
    publishing: &Arc<Publishing>,
    object: &str,
    claim: Option<&Dedup>,
) -> Result<Option<HeldMarker>> {
    loop {
        let permit = publishing.dedup.looks.clone().acquire_owned().await.map_err(|_| lost())?;
        let channel = publishing.topology.handle.control().dedicated().await?;
        match look(channel, object, claim).await {
            Ok((consumer, marker)) => {
                let object = object.to_owned();
                return Ok(Some(HeldMarker { object, marker, consumer, _permit: permit }));
            }
            Err(Refusal::Taken(_)) => {
                drop(permit);
                tokio::time::sleep(TAKEN).await;
            }
            Err(Refusal::Missing(_)) if claim.is_none() => return Ok(None),
            Err(Refusal::Missing(_)) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
}

/// Whether the holder of a key died of its time to live, which the broker files without a word to anybody.
async fn died_unnoticed(
    publishing: &Arc<Publishing>,
    queue: &QueueName,
    hold: &HeldMarker,
    holder: &MessageId,
) -> Result<bool> {
    let end = hold.marker.as_ref().and_then(terms::end);
    match end {
        Some(end) if end <= publishing.topology.handle.now().timestamp_millis() => {
            lies_unnoticed(publishing, queue, holder).await
        }
        _ => Ok(false),
    }
}

/// Whether a message lies among the letters that the broker filed and nobody has noticed.
pub(crate) async fn lies_unnoticed(
    publishing: &Arc<Publishing>,
    queue: &QueueName,
    id: &MessageId,
) -> Result<bool> {
    let mut walk =
        Browser::begin(publishing.topology.handle.control(), queue, publishing.topology.names.dead(queue))
            .await?;
    let mut lies = false;
    while !lies && let Some(found) = walk.read_next(queue).await? {
        lies = found.unnoticed().is_some_and(|message| message.id() == id);
    }
    walk.end().await;
    Ok(lies)
}

/// The life of a queue that keeps a key.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    pub(crate) queue: QueueName,
    pub(crate) address: Arc<str>,
}

impl Keeper {
    /// The queue, where it is declared to keep keys.
    fn of(entry: &CatalogueEntry) -> Option<Self> {
        entry.spec.dedup?;
        Some(Self { queue: entry.name().clone(), address: entry.address.clone() })
    }
}

/// Frees a key, when this message has it.
async fn release(publishing: &Arc<Publishing>, keeper: &Keeper, key: &str, id: &MessageId) -> Result<()> {
    if let Some(store) = &publishing.dedup.store {
        return store.release(&dedup_key(publishing, &keeper.queue, key), id).await;
    }
    let object = publishing.topology.names.marker(&keeper.address, key);
    let turn = publishing.dedup.turns.of(object.clone());
    let _turn = turn.lock().await;
    let Some(hold) = take_hold(publishing, &object, None).await? else { return Ok(()) };
    let freed = if hold.holder().as_ref() == Some(id) { hold.free().await } else { Ok(()) };
    hold.end().await;
    freed
}

/// Frees the key of a message that is no more, where this queue keeps keys.
pub(crate) async fn release_key_of(publishing: &Arc<Publishing>, entry: &CatalogueEntry, message: &Message) {
    if let Some(keeper) = Keeper::of(entry) {
        release_key_at(publishing, keeper, message).await;
    }
}

/// Frees the key of a message that is no more. A key that cannot be freed is kept until its window ends.
pub(crate) async fn release_key_at(publishing: &Arc<Publishing>, keeper: Keeper, message: &Message) {
    let Some(key) = message.dedup_key() else { return };
    let deadline = publishing.topology.handle.deadline;
    let publishing = publishing.clone();
    let (key, id) = (key.to_owned(), message.id().clone());
    let work = background().spawn(async move {
        if let Err(error) = release(&publishing, &keeper, &key, &id).await {
            tracing::warn!(name: "rabbitmq.key_not_freed", queue = %keeper.queue, %id, %error, "a dedup key could not be freed: its window ends it");
        }
    });
    let _ = tokio::time::timeout(deadline, work).await;
}

/// Frees the keys of many.
pub(crate) async fn release_keys_of(
    publishing: &Arc<Publishing>,
    entry: &CatalogueEntry,
    messages: &[Message],
) {
    let freed = |message| release_key_of(publishing, entry, message).boxed();
    let each: Vec<BoxFuture<'_, ()>> = messages.iter().map(freed).collect();
    futures_util::stream::iter(each).buffer_unordered(TOGETHER).collect::<()>().await;
}

fn dedup_key(publishing: &Arc<Publishing>, queue: &QueueName, key: &str) -> DedupKey {
    let namespace = publishing.topology.names.namespace().to_owned();
    DedupKey { namespace, queue: queue.clone(), key: key.to_owned() }
}

/// Begins the queue's only consumer, and takes up the marker if there is one.
async fn look(
    channel: ControlChannel,
    object: &str,
    claim: Option<&Dedup>,
) -> Answer<(Deliveries, Option<BasicProperties>)> {
    if let Some(dedup) = claim {
        let queue = Change::Queue { name: object.to_owned(), arguments: arguments(dedup) };
        channel.change(vec![queue]).await?;
    }
    let mut consumer = channel.consume_alone(object).await?;
    consumer.channel.messages(object).await?;
    let marker = consumer.here()?;
    Ok((consumer, marker.map(|delivery| delivery.properties)))
}

fn arguments(dedup: &Dedup) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), millis(dedup.window));
    arguments.insert("x-expires".into(), millis(dedup.window + SLACK));
    arguments
}

/// What a marker says of its message: its id, and when it expires. The marker itself does not: the message may be in hand then.
fn marker(message: &Message, now: DateTime<Utc>) -> BasicProperties {
    let properties =
        BasicProperties::default().with_delivery_mode(2).with_message_id(message.id().as_str().into());
    match message.ttl() {
        Some(ttl) => terms::expiring(properties, ttl, (now + ttl).timestamp_millis(), None),
        None => properties,
    }
}
