//! Where a publish goes: to a queue, to all that a topic reaches, or to an inbox.

use std::sync::Arc;

use polyqueue::backend::{BatchCall, Batcher, Deadline, no_dedup_keys, not_found_if_all};
use polyqueue::{
    Destination, Error, Message, Overflow, Published, QueueName, ReplyAddress, Result, RoutingKey,
};

use crate::hub::Route;
use crate::patience::in_order;
use crate::placed::Placed;
use crate::publisher::Outgoing;
use crate::queue::RedisQueue;
use crate::topics::Post;
use crate::{catalogue, inbox};

impl RedisQueue {
    pub(crate) async fn send(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let answers = match to {
            Destination::Queue(queue) => self.to_queue(queue, batch).await?,
            Destination::Topic(key) => self.to_topic(key, batch).await?,
            Destination::Reply(address) => self.to_inbox(address, batch).await,
        };
        not_found_if_all(answers)
    }

    async fn to_queue(&self, queue: &QueueName, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        let route = self.hub.route(queue);
        let with_key = batch.iter().position(|message| message.dedup_key().is_some());
        if let Some(index) = with_key
            && !self.keeps_keys(&route).await?
        {
            return Err(no_dedup_keys(format!("queue {queue}")).at(index));
        }
        let items = self.outgoing(batch).collect();
        let flows = route.pace.flows();
        let answers = self.place(&route.publish, items, flows).await;
        if answers.iter().any(|answer| matches!(answer, Err(Error::NotFound(_) | Error::Invalid { .. }))) {
            self.hub.forget(queue);
        }
        Ok(answers)
    }

    /// Whether the queue keeps dedup keys. Once it did it does, until it is deleted.
    async fn keeps_keys(&self, route: &Route) -> Result<bool> {
        if route.keeps_keys.get().is_some() {
            return Ok(true);
        }
        let limit = Deadline::new("publish", self.hub.deadline);
        let text = self.hub.catalogue.text_of(&route.queue, limit).await.map_err(Error::definite)?;
        let text = text.ok_or_else(|| Error::not_found(route.queue.clone()))?;
        let keeps = catalogue::parse(route.queue.as_str(), &text)?.dedup.is_some();
        if keeps {
            let _ = route.keeps_keys.set(());
        }
        Ok(keeps)
    }

    async fn to_topic(&self, key: &RoutingKey, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        let limit = Deadline::new("publish", self.hub.deadline);
        let catalogue = &self.hub.catalogue;
        let mut table = catalogue.known(limit).await.map_err(Error::definite)?;
        if let Some(index) = batch.iter().position(|message| message.dedup_key().is_some()) {
            let keeps = |at: &usize, table: &catalogue::Table| table.queues[*at].spec.dedup.is_some();
            if !table.route(key).iter().any(|at| keeps(at, &table)) {
                table = catalogue.newer(table, limit).await.map_err(Error::definite)?;
                let route = table.route(key);
                if !route.is_empty() && !route.iter().any(|at| keeps(at, &table)) {
                    return Err(
                        no_dedup_keys(format!("every queue that is bound to the topic {key}")).at(index)
                    );
                }
            }
        }
        let waits =
            |at: &usize| table.queues[*at].spec.bound.is_some_and(|bound| bound.overflow == Overflow::Block);
        let flows = !table.route(key).iter().any(waits);
        let items = self.outgoing(batch).map(|outgoing| Post { key: key.clone(), outgoing }).collect();
        Ok(self.place(&self.hub.topics, items, flows).await)
    }

    async fn to_inbox(&self, address: &ReplyAddress, batch: Vec<Message>) -> Vec<Result<Published>> {
        inbox::reply(&self.hub, address, self.outgoing(batch).collect()).await
    }

    /// Together with what others send, where nobody is ever made to wait; else beside it and in order.
    async fn place<F, I>(&self, lane: &Arc<Batcher<F>>, items: Vec<I>, flows: bool) -> Vec<Result<Published>>
    where
        F: BatchCall<Item = I, Answer = Placed<I>>,
        I: Clone + Send + 'static,
    {
        let answers = match flows {
            true => self.in_company(lane, items).await,
            false => in_order(&self.hub, lane, items).await,
        };
        let numbered = answers.into_iter().enumerate();
        numbered.map(|(index, answer)| answer.map_err(|error| error.at(index))).collect()
    }

    async fn in_company<F, I>(&self, lane: &Arc<Batcher<F>>, items: Vec<I>) -> Vec<Result<Published>>
    where
        F: BatchCall<Item = I, Answer = Placed<I>>,
        I: Clone + Send + 'static,
    {
        let mut answers = Vec::with_capacity(items.len());
        let (mut places, mut waiting) = (Vec::new(), Vec::new());
        for (place, answer) in lane.send(items).await.into_iter().enumerate() {
            answers.push(match answer {
                Ok(Placed::Published(published)) => Ok(published),
                Err(error) => Err(error),
                // The queue was made anew in the meantime, and is patient now.
                Ok(Placed::Waits(item, queue)) => {
                    places.push(place);
                    waiting.push(item);
                    Err(Error::not_found(queue))
                }
            });
        }
        if !waiting.is_empty() {
            let late = in_order(&self.hub, lane, waiting).await;
            places.into_iter().zip(late).for_each(|(place, answer)| answers[place] = answer);
        }
        answers
    }

    fn outgoing(&self, batch: Vec<Message>) -> impl Iterator<Item = Outgoing> {
        let published_at = self.hub.wall_clock();
        batch.into_iter().map(move |message| Outgoing { message, published_at })
    }
}
