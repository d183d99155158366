//! A broker that lets nobody hold a message for long: it is noticed and told, and what only waits is renewed.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    ConnectOptions, Consumer, DeadFilter, Delivery, Event, Events, Message, Page, Queue, QueueName,
    Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::{PROVIDER, hold_limit};
use tokio::time::{sleep, timeout};

const Q: QueueName = QueueName::from_static("q");
const SOON: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(30);

/// A broker that allows so much, and looks twice a second.
async fn strict() -> (RabbitBroker, Arc<dyn Queue>) {
    let broker = RabbitBroker::start().await.unwrap();
    let allow = "[application:set_env(rabbit, K, V) || {K, V} <- [{consumer_timeout, 2000}, {channel_tick_interval, 500}]]";
    broker.eval(allow).await.unwrap();
    let queue = PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
    queue.declare(&Q.into()).await.unwrap();
    (broker, queue)
}

async fn publish(queue: &dyn Queue, count: usize) {
    let batch = (0..count).map(|nth| Message::new(format!("{nth}"))).collect();
    queue.publish(&Q.into(), batch).await.unwrap();
}

async fn received(consumer: &dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut came = Vec::new();
    while came.len() < count {
        let next = consumer.receive(count - came.len(), SOON).await.unwrap();
        assert!(!next.is_empty(), "{} of {count} came", came.len());
        came.extend(next);
    }
    came
}

async fn ack(consumer: &dyn Consumer, held: &[Delivery]) {
    let verdicts: Vec<_> = held.iter().map(|delivery| (delivery.receipt.clone(), Verdict::Ack)).collect();
    consumer.settle(&verdicts).await.unwrap();
}

/// The lease and the limit of the next event that is about them.
async fn limited(events: &mut Events) -> (Duration, Duration) {
    let told = async {
        loop {
            if let Event::LeaseLimited { queue, lease, limit } = events.next().await.unwrap() {
                assert_eq!(queue, Q);
                return (lease, limit);
            }
        }
    };
    timeout(SOON, told).await.expect("nobody told")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_the_broker_does_not_allow_is_told_and_what_waits_is_renewed() {
    let (broker, queue) = strict().await;
    let options = ConnectOptions::new(broker.url());
    let found = tokio::spawn(async move { hold_limit(&options, LEASE).await.unwrap() });
    let mut events = queue.events();
    publish(&*queue, 1).await;
    let consumer = queue.subscribe(&Subscription::new(Q).lease(LEASE)).await.unwrap();
    let held = received(&*consumer, 1).await;
    assert_eq!(limited(&mut events).await, (LEASE, LIMIT));
    let health = queue.health().await;
    assert!(health.healthy && health.detail.contains("consumer_timeout"), "{health:?}");
    let again = received(&*consumer, 1).await;
    assert_eq!((again[0].message.id(), again[0].attempt), (held[0].message.id(), 2));
    ack(&*consumer, &again).await;
    consumer.close().await.unwrap();

    // Who subscribes now is told at once, and what waits in its buffer is nobody's attempt.
    let push = queue.subscribe(&Subscription::new(Q).lease(LEASE).prefetch(8)).await.unwrap();
    assert_eq!(limited(&mut events).await, (LEASE, LIMIT));
    publish(&*queue, 8).await;
    sleep(3 * LIMIT).await;
    let came = received(&*push, 8).await;
    assert!(came.iter().all(|delivery| delivery.attempt == 1), "{came:?}");
    ack(&*push, &came).await;
    let dead = queue.dead_letters(&Q, &DeadFilter::all(), Page::first(10)).await.unwrap().dead_letters;
    assert!(dead.is_empty(), "{dead:?}");

    assert_eq!(found.await.unwrap(), Some(LIMIT));

    // A lease that is short enough is nobody's concern.
    let short = queue.subscribe(&Subscription::new(Q).lease(LIMIT / 2)).await.unwrap();
    short.receive(1, Duration::ZERO).await.unwrap();
    let more = timeout(Duration::from_millis(200), limited(&mut events)).await;
    assert!(more.is_err(), "{more:?}");
}
