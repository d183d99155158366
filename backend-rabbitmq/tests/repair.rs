//! What others delete by the broker's own means is made again, on a private node.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use polyqueue::{
    ConnectOptions, DeadFilter, Error, Message, Page, Pattern, Purge, Queue, QueueExt, QueueName, QueueSpec,
    RoutingKey, Settled, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::{sleep, timeout};

use self::support::{MOMENT, Q, SOON, is_missing, put, take, works};

/// A namespace of a test's own, and somebody who has never heard of this library.
struct Place {
    url: String,
    name: &'static str,
    plain: Channel,
    _connection: Connection,
}

impl Place {
    async fn new(node: &RabbitBroker, name: &'static str) -> Self {
        let connection = Connection::connect(&node.url(), ConnectionProperties::default()).await.unwrap();
        let plain = connection.create_channel().await.unwrap();
        Self { url: node.url(), name, plain, _connection: connection }
    }

    async fn open(&self) -> Arc<dyn Queue> {
        PROVIDER.connect(ConnectOptions::new(&self.url).namespace(self.name)).await.unwrap()
    }

    async fn delete_ready(&self) {
        let object = format!("{}.q.{Q}", self.name);
        self.plain.queue_delete(object.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    async fn delete_entry(&self) {
        let object = format!("{}.in", self.name);
        self.plain.exchange_delete(object.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_private_node() {
    let node = RabbitBroker::start().await.unwrap();
    tokio::join!(
        a_queue_is_declared_anew_also_where_the_mark_of_its_end_is_gone(&node),
        dead_letters_stay_when_their_queue_is_made_again(&node),
        what_is_deleted_by_the_brokers_own_means_is_there_again_at_the_next_use(&node),
        one_queue_is_made_again_while_others_are_looked_for(&node),
    );
}

/// What says that the first life of a queue was ended goes with the exchange that it is bound to.
async fn a_queue_is_declared_anew_also_where_the_mark_of_its_end_is_gone(node: &RabbitBroker) {
    let place = Place::new(node, "unmarked").await;
    let queue = place.open().await;
    for _ in 0..2 {
        queue.declare(&Q.into()).await.unwrap();
        queue.delete(&Q).await.unwrap();
        place.delete_entry().await;
    }
    queue.declare(&Q.into()).await.unwrap();
    queue.publish_one(Q, Message::new("there")).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    assert_eq!(consumer.receive(1, SOON).await.unwrap().len(), 1);
}

/// What has died stays where it is when the queue that it died in is deleted by the broker's own means.
async fn dead_letters_stay_when_their_queue_is_made_again(node: &RabbitBroker) {
    let place = Place::new(node, "letters").await;
    let queue = place.open().await;
    queue.declare(&Q.into()).await.unwrap();
    queue.publish_one(Q, Message::new("dead")).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    let held = consumer.receive(1, SOON).await.unwrap().remove(0);
    consumer.settle(&[(held.receipt, Verdict::reject("no"))]).await.unwrap()[0].as_ref().unwrap();
    consumer.close().await.unwrap();
    place.delete_ready().await;
    queue.publish_one(Q, Message::new("alive")).await.unwrap();
    let letters = queue.dead_letters(&Q, &DeadFilter::all(), Page::first(10)).await.unwrap().dead_letters;
    assert_eq!(letters.len(), 1);
    assert_eq!(queue.redrive(&Q, &[letters[0].id.clone()]).await.unwrap(), [true]);
    assert_eq!(take(&queue, 2).await.len(), 2);
}

/// A queue that somebody deletes by the broker's own means is made again by who uses it next, and exchanges by who declares.
async fn what_is_deleted_by_the_brokers_own_means_is_there_again_at_the_next_use(node: &RabbitBroker) {
    let place = Place::new(node, "deleted").await;
    let (owner, stale) = (place.open().await, place.open().await);
    owner.declare(&Q.into()).await.unwrap();
    works(&stale).await;
    for _ in 0..2 {
        let consumer = stale.subscribe(&Subscription::new(Q)).await.unwrap();
        put(&stale, "held", Duration::ZERO).await.unwrap();
        let held = consumer.receive(1, SOON).await.unwrap().remove(0);
        put(&stale, "old", MOMENT * 5).await.unwrap();
        place.delete_ready().await;
        works(&stale).await;
        owner.declare(&Q.into()).await.unwrap();
        let retry = Verdict::Retry { after: Duration::ZERO, error: "too late".into() };
        let settled = consumer.settle(&[(held.receipt, retry)]).await.unwrap().remove(0);
        assert!(matches!(settled, Ok(Settled::LeaseLost)), "{settled:?}");
        works(&stale).await;
        sleep(Duration::from_millis(600)).await;
        assert_eq!(owner.stats(&Q).await.unwrap().ready, 0, "one of a former life came");
    }
    // A topic finds it again, too, until it is deleted in order.
    let topic = RoutingKey::new("t").unwrap();
    let tell =
        async |queue: &Arc<dyn Queue>| queue.publish(&topic.clone().into(), vec![Message::new("")]).await;
    owner.declare(&QueueSpec::new(Q).bind(Pattern::new("t").unwrap())).await.unwrap();
    place.delete_ready().await;
    tell(&owner).await.unwrap().remove(0).unwrap();
    assert_eq!(stale.purge(&Q, Purge::Waiting).await.unwrap(), 1);
    owner.delete(&Q).await.unwrap();
    for queue in [&owner, &stale] {
        assert!(is_missing(&tell(queue).await));
        assert!(is_missing(&put(queue, "", Duration::ZERO).await));
    }
    owner.declare(&Q.into()).await.unwrap();
    place.delete_entry().await;
    let again = async {
        while put(&stale, "now", Duration::ZERO).await.is_err() {
            sleep(MOMENT).await;
        }
    };
    timeout(SOON, again).await.unwrap();
    stale.purge(&Q, Purge::Waiting).await.unwrap();
    works(&stale).await;
}

/// Who looks for queues that nobody has listed waits a second for each: others' queues are made again meanwhile.
async fn one_queue_is_made_again_while_others_are_looked_for(node: &RabbitBroker) {
    let place = Place::new(node, "others").await;
    let queue = place.open().await;
    queue.declare(&Q.into()).await.unwrap();
    works(&queue).await;
    let unlisted: Vec<QueueName> =
        (0..20).map(|n| QueueName::new(format!("unlisted-{n}")).unwrap()).collect();
    for name in &unlisted {
        let (object, options) =
            (format!("{}.q.{name}", place.name), QueueDeclareOptions { durable: true, ..Default::default() });
        place.plain.queue_declare(object.into(), options, FieldTable::default()).await.unwrap();
    }
    place.delete_ready().await;
    let others = unlisted.iter().map(|name| queue.publish_one(name, Message::new("unknown")));
    let mine = async {
        sleep(MOMENT).await;
        timeout(SOON / 2, queue.publish_one(Q, Message::new("mine"))).await.unwrap().unwrap();
    };
    let (others, ()) = tokio::join!(join_all(others), mine);
    for other in others {
        assert!(matches!(other, Err(Error::Unavailable { .. })), "{other:?}");
    }
}
