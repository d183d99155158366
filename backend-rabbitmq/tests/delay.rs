//! Delayed messages on a real broker: never early, not lost, and in time, whatever becomes of those who move them.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use polyqueue::{
    Admin, ConnectOptions, Consumer, Message, Queue, QueueExt, QueueName, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, Proxy, RabbitBroker};
use polyqueue_conformance::{Direction, Link};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
/// What a busy machine may add.
const LATE: Duration = Duration::from_secs(10);

async fn open(options: ConnectOptions) -> Arc<dyn Queue> {
    PROVIDER.connect(options).await.unwrap()
}

async fn direct(broker: &RabbitBroker) -> Arc<dyn Queue> {
    open(ConnectOptions::new(broker.url())).await
}

async fn declared(queue: &Arc<dyn Queue>, name: &'static str) -> QueueName {
    let name = QueueName::from_static(name);
    queue.declare(&name.clone().into()).await.unwrap();
    name
}

async fn delay(queue: &Arc<dyn Queue>, name: &QueueName, text: &str, wait: Duration) {
    queue.publish_one(name.clone(), Message::new(text.to_owned()).with_delay(wait)).await.unwrap();
}

async fn consumer(queue: &Arc<dyn Queue>, name: &QueueName) -> Box<dyn Consumer> {
    queue.subscribe(&Subscription::new(name.clone()).prefetch(100)).await.unwrap()
}

/// What comes until nothing does for so long, and how often.
async fn drained(consumer: &dyn Consumer, quiet: Duration) -> HashMap<String, usize> {
    let mut came = HashMap::new();
    loop {
        // A connection that is lost comes back.
        let Ok(deliveries) = consumer.receive(100, quiet).await else { continue };
        if deliveries.is_empty() {
            return came;
        }
        let mut verdicts = Vec::new();
        for delivery in deliveries {
            *came.entry(String::from_utf8(delivery.message.payload().to_vec()).unwrap()).or_default() += 1;
            verdicts.push((delivery.receipt, Verdict::Ack));
        }
        let _ = consumer.settle(&verdicts).await;
    }
}

async fn next(consumer: &dyn Consumer) -> String {
    let delivery = consumer.receive(1, 30 * SECOND).await.unwrap().pop().unwrap();
    consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await.unwrap();
    String::from_utf8(delivery.message.payload().to_vec()).unwrap()
}

/// How many messages are ready in the slots of a level.
async fn waiting(broker: &RabbitBroker, level: usize) -> u64 {
    let said = broker
        .eval(&format!(
            "lists:sum([proplists:get_value(messages, rabbit_amqqueue:info(Q, [messages])) || \
             Q <- rabbit_amqqueue:list(), {{resource, _, queue, N}} <- [amqqueue:get_name(Q)], \
             lists:prefix(\"polyqueue.slot.{level}.\", binary_to_list(N))])"
        ))
        .await
        .unwrap();
    said.trim().parse().unwrap()
}

/// Waits of many lengths, on all levels of the wheel, in one quiet virtual host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_are_kept() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = direct(&broker).await;
    tokio::join!(
        short_waits(&queue),
        a_wait_that_passes_two_levels(&broker, &queue),
        clocks_that_are_wrong(&broker),
        a_queue_that_is_deleted_and_declared_anew(&queue),
        namespaces_that_share_a_virtual_host(&queue),
    );
    far_waits(&broker, &queue).await;
    a_slot_that_is_deleted_by_hand(&broker, &queue).await;
    routes_that_are_deleted_by_hand(&broker, &queue).await;
    queue.close().await.unwrap();
}

async fn short_waits(queue: &Arc<dyn Queue>) {
    let name = declared(queue, "short").await;
    let consumer = consumer(queue, &name).await;
    for millis in [10, 100, 300, 1_000, 1_700, 50] {
        let (wait, began) = (Duration::from_millis(millis), Instant::now());
        delay(queue, &name, "later", wait).await;
        next(&*consumer).await;
        let came = began.elapsed();
        assert!(wait <= came && came < wait + LATE, "{wait:?}: {came:?}");
    }
}

async fn a_wait_that_passes_two_levels(broker: &RabbitBroker, queue: &Arc<dyn Queue>) {
    let name = declared(queue, "two levels").await;
    let consumer = consumer(queue, &name).await;
    let (wait, began) = (Duration::from_millis(19_500), Instant::now());
    delay(queue, &name, "far", wait).await;
    assert_eq!(waiting(broker, 1).await, 1);
    assert_eq!(next(&*consumer).await, "far");
    let came = began.elapsed();
    assert!(wait <= came && came < wait + LATE, "{came:?}");
}

async fn far_waits(broker: &RabbitBroker, queue: &Arc<dyn Queue>) {
    let name = declared(queue, "far").await;
    for (level, secs) in [(2, 600), (3, 10_000), (4, 100_000), (5, 3_000_000), (6, 31_000_000)] {
        delay(queue, &name, "far", Duration::from_secs(secs)).await;
        assert_eq!(waiting(broker, level).await, 1, "{secs} s");
    }
}

async fn clocks_that_are_wrong(broker: &RabbitBroker) {
    let minutes = chrono::TimeDelta::minutes(5);
    let ahead = open(ConnectOptions::new(broker.url()).clock_offset(minutes)).await;
    let behind = open(ConnectOptions::new(broker.url()).clock_offset(-minutes)).await;
    let name = declared(&ahead, "clocks").await;
    let consumer = consumer(&behind, &name).await;
    for from in [&ahead, &behind] {
        let (wait, began) = (SECOND, Instant::now());
        delay(from, &name, "later", wait).await;
        next(&*consumer).await;
        let came = began.elapsed();
        assert!(wait <= came && came < wait + LATE, "{came:?}");
    }
    ahead.close().await.unwrap();
    behind.close().await.unwrap();
}

async fn a_queue_that_is_deleted_and_declared_anew(queue: &Arc<dyn Queue>) {
    let name = declared(queue, "anew").await;
    delay(queue, &name, "old", 2 * SECOND).await;
    queue.delete(&name).await.unwrap();
    let name = declared(queue, "anew").await;
    delay(queue, &name, "new", 3 * SECOND).await;
    let came = drained(&*consumer(queue, &name).await, 8 * SECOND).await;
    assert_eq!(came, HashMap::from([("new".to_owned(), 1)]));
}

async fn namespaces_that_share_a_virtual_host(queue: &Arc<dyn Queue>) {
    let one = async |nth: u32| {
        let queue = queue.namespace(&format!("tenant{nth}")).unwrap();
        let name = declared(&queue, "shared").await;
        delay(&queue, &name, &nth.to_string(), SECOND).await;
        assert_eq!(next(&*consumer(&queue, &name).await).await, nth.to_string());
    };
    join_all((0..20).map(one)).await;
}

async fn a_slot_that_is_deleted_by_hand(broker: &RabbitBroker, queue: &Arc<dyn Queue>) {
    let name = declared(queue, "by hand").await;
    let delete = "[rabbit_amqqueue:delete(Q, false, false, <<\"test\">>) || Q <- rabbit_amqqueue:list(), \
         {resource, _, queue, N} <- [amqqueue:get_name(Q)], lists:prefix(\"polyqueue.slot.\", binary_to_list(N))]";
    broker.eval(delete).await.unwrap();
    let batch = (0..100).map(|nth| Message::new(nth.to_string()).with_delay(SECOND)).collect();
    for published in queue.publish(&name.clone().into(), batch).await.unwrap() {
        published.unwrap();
    }
    assert_eq!(drained(&*consumer(queue, &name).await, 5 * SECOND).await.len(), 100);
}

/// What is due finds no binding: its queue is known by the catalogue.
async fn routes_that_are_deleted_by_hand(broker: &RabbitBroker, queue: &Arc<dyn Queue>) {
    let name = declared(queue, "routes").await;
    delay(queue, &name, "later", 2 * SECOND).await;
    let delete = "rabbit_exchange:delete(rabbit_misc:r(<<\"/\">>, exchange, <<\"polyqueue.due\">>), false, <<\"test\">>)";
    broker.eval(delete).await.unwrap();
    assert_eq!(next(&*consumer(queue, &name).await).await, "later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mover_that_is_closed_leaves_no_copies() {
    let broker = RabbitBroker::start().await.unwrap();
    for nth in 0..3 {
        let (mover, queue) = (direct(&broker).await, direct(&broker).await);
        let name = declared(&mover, "closed").await;
        delay(&mover, &name, "first", Duration::from_millis(1)).await;
        let message = |nth: u32| Message::new(nth.to_string()).with_delay(Duration::from_millis(700));
        let began = Instant::now();
        queue.publish(&name.clone().into(), (0..2_000).map(message).collect()).await.unwrap();
        sleep(Duration::from_millis(720 + 90 * nth).saturating_sub(began.elapsed())).await;
        mover.close().await.unwrap();
        let came = drained(&*consumer(&queue, &name).await, 2 * SECOND).await;
        assert_eq!(came.len(), 2_001);
        assert!(came.values().all(|times| *times == 1), "copies");
        queue.close().await.unwrap();
    }
}

/// Its delay begins when it is called: the broker takes seconds to say whether the queue is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_begins_when_the_publish_is_called() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = direct(&broker).await;
    let name = declared(&queue, "slow").await;
    let consumer = consumer(&queue, &name).await;
    // This one moves.
    delay(&queue, &name, "first", Duration::from_millis(1)).await;
    assert_eq!(next(&*consumer).await, "first");
    let proxy = Proxy::start(broker.port()).unwrap();
    let slow = open(ConnectOptions::new(proxy.through(&broker.url())).deadline(60 * SECOND)).await;
    delay(&slow, &name, "warm", Duration::from_millis(1)).await;
    assert_eq!(next(&*consumer).await, "warm");
    proxy.delay(SECOND);
    let began = Instant::now();
    let published = delay(&slow, &name, "later", 7 * SECOND);
    let ((), later) = tokio::join!(published, next(&*consumer));
    let took = began.elapsed();
    assert_eq!(later, "later");
    assert!(7 * SECOND <= took && took < 8 * SECOND + SECOND / 2, "{took:?}");
}

/// Another one takes the turn of a mover whose connection stands still, and of one that is cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mover_that_is_gone_is_missed() {
    let broker = RabbitBroker::start().await.unwrap();
    let proxy = Proxy::start(broker.port()).unwrap();
    let mover = open(ConnectOptions::new(proxy.through(&broker.url()))).await;
    let name = declared(&mover, "gone").await;
    delay(&mover, &name, "first", Duration::from_millis(1)).await;
    let queue = direct(&broker).await;
    let consumer = consumer(&queue, &name).await;
    assert_eq!(next(&*consumer).await, "first");
    delay(&queue, &name, "stands by", Duration::from_millis(1)).await;
    assert_eq!(next(&*consumer).await, "stands by");
    let stand_still = |proxy: &Proxy| {
        proxy.swallow(Direction::ToBroker);
        proxy.swallow(Direction::ToClient);
    };
    for fault in [stand_still, Proxy::cut] {
        let began = Instant::now();
        delay(&queue, &name, "later", SECOND).await;
        fault(&proxy);
        assert_eq!(next(&*consumer).await, "later");
        assert!(SECOND <= began.elapsed() && began.elapsed() < 6 * SECOND + LATE, "{:?}", began.elapsed());
        proxy.heal();
    }
}

/// All that waits is there after the broker was killed, none of it early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_loses_nothing() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = direct(&broker).await;
    let name = declared(&queue, "killed").await;
    let message =
        |nth: u64| Message::new(nth.to_string()).with_delay(Duration::from_millis(1_000 + 20 * nth));
    let began = Instant::now();
    for published in queue.publish(&name.clone().into(), (0..500).map(message).collect()).await.unwrap() {
        published.unwrap();
    }
    sleep(2 * SECOND).await;
    broker.kill9().await.unwrap();
    broker.start_again().await.unwrap();
    let started = Instant::now();
    let consumer = consumer(&queue, &name).await;
    let (mut came, mut last) = (HashMap::<u64, Instant>::new(), Instant::now());
    while came.len() < 500 && started.elapsed() < 60 * SECOND {
        let Ok(deliveries) = consumer.receive(100, SECOND).await else { continue };
        for delivery in deliveries {
            let nth: u64 = std::str::from_utf8(delivery.message.payload()).unwrap().parse().unwrap();
            last = Instant::now();
            assert!(last - began >= Duration::from_millis(1_000 + 20 * nth), "{nth} is early");
            came.entry(nth).or_insert(last);
            let _ = consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await;
        }
    }
    assert_eq!(came.len(), 500, "lost");
    assert!(last - started <= 10 * SECOND + LATE, "{:?}", last - started);
}
