//! A message's next copy and the ack of its original: both or neither, whatever happens between.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{ConnectOptions, Consumer, Message, Queue, QueueExt, QueueName, Subscription, Verdict};
use polyqueue_conformance::broker::{Broker, Proxy, RabbitBroker};
use polyqueue_conformance::{Direction, Fault, Link};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::{Instant, sleep, timeout};

const Q: QueueName = QueueName::from_static("q");
const SOON: Duration = Duration::from_secs(10);
/// Nothing comes any more that has not come by then: a cut connection's messages are back at once.
const QUIET: Duration = Duration::from_millis(700);

async fn open(url: &str, deadline: Duration) -> Arc<dyn Queue> {
    let queue = PROVIDER.connect(ConnectOptions::new(url).deadline(deadline)).await.unwrap();
    queue.declare(&Q.into()).await.unwrap();
    queue
}

async fn reader(queue: &dyn Queue) -> Box<dyn Consumer> {
    queue.subscribe(&Subscription::new(Q).max_attempts(std::num::NonZeroU32::MAX)).await.unwrap()
}

/// How often each message comes, acked at once, until nothing comes for a while.
async fn drained(consumer: &dyn Consumer, quiet: Duration) -> HashMap<String, usize> {
    let mut came = HashMap::new();
    let mut last = Instant::now();
    while last.elapsed() < quiet {
        let Ok(deliveries) = consumer.receive(100, Duration::from_millis(200)).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        for delivery in deliveries {
            last = Instant::now();
            *came.entry(delivery.message.id().to_string()).or_default() += 1;
            let _ = consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await;
        }
    }
    came
}

fn now() -> [Verdict; 2] {
    [Verdict::Release { after: Duration::ZERO }, Verdict::retry(Duration::ZERO, "again")]
}

/// In steps of some bytes through all that a verdict sends, and through all that is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_connection_is_cut_there_is_one_message() {
    let broker = RabbitBroker::start().await.unwrap();
    let direct = open(&broker.url(), SOON).await;
    let other = reader(&*direct).await;
    let (to_broker, to_client) = (Direction::ToBroker, Direction::ToClient);
    let places = (0..18).map(|nth| (to_broker, 37 * nth)).chain((0..6).map(|nth| (to_client, 11 * nth)));
    for (nth, (direction, bytes)) in places.enumerate() {
        let proxy = Proxy::start(broker.port()).unwrap();
        let queue = open(&proxy.through(&broker.url()), Duration::from_secs(2)).await;
        let consumer = reader(&*queue).await;
        let id = direct.publish_one(Q, Message::new("one")).await.unwrap().id;
        let held = consumer.receive(1, SOON).await.unwrap().remove(0);
        proxy.cut_after(direction, bytes);
        let _ = consumer.settle(&[(held.receipt, now()[nth % 2].clone())]).await;
        proxy.cut();
        drop((consumer, queue));
        let came = drained(&*other, QUIET).await;
        assert_eq!(came.get(&id.to_string()), Some(&1), "{came:?} after a cut at {bytes} bytes {direction:?}");
        assert_eq!(came.len(), 1, "{came:?}");
    }
}

/// What comes back is published again before it is handed out: many times, while its channel is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_its_channel_is_closed_there_is_one_message() {
    const MESSAGES: usize = 60;
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker.url(), SOON).await;
    let batch = (0..MESSAGES).map(|nth| Message::new(format!("{nth}"))).collect();
    queue.publish(&Q.into(), batch).await.unwrap().into_iter().for_each(|answer| drop(answer.unwrap()));
    let consumer = reader(&*queue).await;
    let ended = Instant::now() + Duration::from_secs(6);
    let closing = async {
        while Instant::now() < ended {
            sleep(Duration::from_millis(60)).await;
            broker.own_fault(Fault::CloseChannels).unwrap().await.unwrap();
        }
    };
    let working = async {
        while Instant::now() < ended {
            let Ok(came) = consumer.receive(8, Duration::from_millis(100)).await else { continue };
            let verdicts: Vec<_> =
                came.into_iter().enumerate().map(|(nth, it)| (it.receipt, now()[nth % 2].clone())).collect();
            let _ = consumer.settle(&verdicts).await;
        }
    };
    tokio::join!(closing, working);
    // Who lost so many channels pauses before the next.
    drop(consumer);
    let came = drained(&*reader(&*queue).await, 3 * QUIET).await;
    assert_eq!(came.len(), MESSAGES, "lost");
    let twice: Vec<_> = came.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// An alarm catches what is published; those who consume beside it go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_an_alarm_catches_takes_nobody_else_along() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker.url(), Duration::from_secs(3)).await;
    let batch = (0..40).map(|nth| Message::new(format!("{nth}"))).collect();
    queue.publish(&Q.into(), batch).await.unwrap().into_iter().for_each(|answer| drop(answer.unwrap()));
    let (retrying, acking) = (reader(&*queue).await, reader(&*queue).await);
    let retries = async {
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            let Ok(came) = retrying.receive(1, Duration::from_millis(100)).await else { continue };
            let verdicts: Vec<_> = came.into_iter().map(|it| (it.receipt, now()[0].clone())).collect();
            let _ = timeout(Duration::from_millis(300), retrying.settle(&verdicts)).await;
        }
    };
    let alarm = async {
        sleep(Duration::from_millis(200)).await;
        broker.own_fault(Fault::Alarm).unwrap().await.unwrap();
    };
    tokio::join!(retries, alarm);
    let began = Instant::now();
    let came = loop {
        match acking.receive(1, Duration::from_secs(1)).await {
            Ok(mut came) if !came.is_empty() => break came.remove(0),
            other => assert!(began.elapsed() < SOON, "nobody is handed anything during an alarm: {other:?}"),
        }
    };
    let settled = acking.settle(&[(came.receipt, Verdict::Ack)]).await.unwrap().remove(0);
    assert!(settled.is_ok(), "{settled:?}");
    broker.undo().await.unwrap();
}
