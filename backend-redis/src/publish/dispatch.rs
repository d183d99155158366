//! Where a publish goes: to a queue, to all that a topic reaches, or to an inbox.

use std::sync::Arc;

use polyqueue::backend::{BatchCall, Batcher, Deadline, begin_delays, no_dedup_keys, not_found_if_all};
use polyqueue::{
    Destination, Error, Message, Overflow, Published, QueueName, ReplyAddress, Result, RoutingKey,
};

use crate::publish::backpressure::in_order;
use crate::publish::batch::Outgoing;
use crate::publish::fan_out::TopicMessage;
use crate::publish::outcome::PublishOutcome;
use crate::publish::publishers::{Publishers, QueuePublisher};
use crate::publish::reply;
use crate::topology::catalogue;
use crate::topology::table::Bound;

pub(crate) async fn publish(
    publishers: &Publishers,
    to: &Destination,
    mut batch: Vec<Message>,
) -> Result<Vec<Result<Published>>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let handle = &publishers.handle;
    begin_delays(&handle.info.limits, to, &mut batch, handle.wall_clock())?;
    let answers = match to {
        Destination::Queue(queue) => to_queue(publishers, queue, batch).await?,
        Destination::Topic(key) => to_topic(publishers, key, batch).await?,
        Destination::Reply(address) => to_inbox(publishers, address, batch).await,
    };
    not_found_if_all(answers)
}

async fn to_queue(
    publishers: &Publishers,
    queue: &QueueName,
    batch: Vec<Message>,
) -> Result<Vec<Result<Published>>> {
    let publisher = publishers.of(queue);
    let with_key = batch.iter().position(|message| message.dedup_key().is_some());
    if let Some(index) = with_key
        && !keeps_keys(publishers, &publisher).await?
    {
        return Err(no_dedup_keys(format!("queue {queue}")).at(index));
    }
    let items = outgoing(publishers, batch).collect();
    let flows = publisher.known_rules.flows();
    let answers = store(publishers, &publisher.batcher, items, flows).await;
    if answers.iter().any(|answer| matches!(answer, Err(Error::NotFound(_) | Error::Invalid { .. }))) {
        publishers.forget(queue);
    }
    Ok(answers)
}

/// Whether the queue keeps dedup keys. Once it did it does, until it is deleted.
async fn keeps_keys(publishers: &Publishers, publisher: &QueuePublisher) -> Result<bool> {
    if publisher.keeps_keys.get().is_some() {
        return Ok(true);
    }
    let limit = Deadline::new("publish", publishers.handle.deadline);
    let read = || publishers.catalogue.text_of(&publisher.queue, limit);
    let mut text = read().await.map_err(Error::definite)?;
    let is_read = text.as_ref().is_some_and(|text| catalogue::parse(publisher.queue.as_str(), text).is_ok());
    if !is_read && publishers.revival.revive(&publisher.queue, limit).await {
        text = read().await.map_err(Error::definite)?;
    }
    let text = text.ok_or_else(|| Error::not_found(publisher.queue.clone()))?;
    let keeps = catalogue::parse(publisher.queue.as_str(), &text)?.dedup.is_some();
    if keeps {
        let _ = publisher.keeps_keys.set(());
    }
    Ok(keeps)
}

async fn to_topic(
    publishers: &Publishers,
    key: &RoutingKey,
    batch: Vec<Message>,
) -> Result<Vec<Result<Published>>> {
    let limit = Deadline::new("publish", publishers.handle.deadline);
    let catalogue = &publishers.catalogue;
    let mut table = catalogue.known(limit).await.map_err(Error::definite)?;
    if let Some(index) = batch.iter().position(|message| message.dedup_key().is_some()) {
        let keeps = |bound: &Arc<Bound>| bound.spec.dedup.is_some();
        if !table.route(key).iter().any(keeps) {
            table = catalogue.newer(table, limit).await.map_err(Error::definite)?;
            let route = table.route(key);
            if !route.is_empty() && !route.iter().any(keeps) {
                return Err(no_dedup_keys(format!("every queue that is bound to the topic {key}")).at(index));
            }
        }
    }
    let waits = |queue: &Arc<Bound>| queue.spec.bound.is_some_and(|bound| bound.overflow == Overflow::Block);
    let flows = !table.route(key).iter().any(waits);
    let items =
        outgoing(publishers, batch).map(|outgoing| TopicMessage { key: key.clone(), outgoing }).collect();
    Ok(store(publishers, &publishers.topics, items, flows).await)
}

async fn to_inbox(
    publishers: &Publishers,
    address: &ReplyAddress,
    batch: Vec<Message>,
) -> Vec<Result<Published>> {
    reply::reply(&publishers.handle, address, outgoing(publishers, batch).collect()).await
}

/// Together with what others send, where nobody is ever made to wait; else beside it and in order.
async fn store<F, I>(
    publishers: &Publishers,
    batcher: &Arc<Batcher<F>>,
    items: Vec<I>,
    flows: bool,
) -> Vec<Result<Published>>
where
    F: BatchCall<Item = I, Answer = PublishOutcome<I>>,
    I: Clone + Send + 'static,
{
    let answers = match flows {
        true => together(publishers, batcher, items).await,
        false => in_order(&publishers.handle, batcher, items).await,
    };
    let numbered = answers.into_iter().enumerate();
    numbered.map(|(index, answer)| answer.map_err(|error| error.at(index))).collect()
}

async fn together<F, I>(
    publishers: &Publishers,
    batcher: &Arc<Batcher<F>>,
    items: Vec<I>,
) -> Vec<Result<Published>>
where
    F: BatchCall<Item = I, Answer = PublishOutcome<I>>,
    I: Clone + Send + 'static,
{
    let mut answers = Vec::with_capacity(items.len());
    let (mut places, mut waiting) = (Vec::new(), Vec::new());
    for (place, answer) in batcher.send(items).await.into_iter().enumerate() {
        answers.push(match answer {
            Ok(PublishOutcome::Published(published)) => Ok(published),
            Err(error) => Err(error),
            // The queue was made anew in the meantime, and makes publishers wait now.
            Ok(PublishOutcome::Waits(item, queue)) => {
                places.push(place);
                waiting.push(item);
                Err(Error::not_found(queue))
            }
        });
    }
    if !waiting.is_empty() {
        let late = in_order(&publishers.handle, batcher, waiting).await;
        places.into_iter().zip(late).for_each(|(place, answer)| answers[place] = answer);
    }
    answers
}

fn outgoing(publishers: &Publishers, batch: Vec<Message>) -> impl Iterator<Item = Outgoing> {
    let published_at = publishers.handle.wall_clock();
    batch.into_iter().map(move |message| Outgoing { message, published_at })
}
