//! Crashes of the broker, deaths of consumers, and clocks: nobody is buried who was in nobody's hands.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use polyqueue::{
    ConnectOptions, Consumer, DeadFilter, DeadLetter, DeadReason, Delivery, Event, Events, Message, Page,
    Queue, QueueName, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::{Instant, sleep};

const Q: QueueName = QueueName::from_static("q");
const SOON: Duration = Duration::from_secs(20);
/// A crash undoes younger acks.
const ACK_WINDOW: Duration = Duration::from_millis(1_200);

async fn open(broker: &RabbitBroker) -> Arc<dyn Queue> {
    let queue = PROVIDER.connect(ConnectOptions::new(broker.url()).deadline(SOON)).await.unwrap();
    queue.declare(&Q.into()).await.unwrap();
    queue
}

async fn publish(queue: &dyn Queue, count: usize) {
    let batch = (0..count).map(|nth| Message::new(format!("{nth}"))).collect();
    queue.publish(&Q.into(), batch).await.unwrap().into_iter().for_each(|answer| drop(answer.unwrap()));
}

async fn reader(queue: &dyn Queue) -> Box<dyn Consumer> {
    queue.subscribe(&Subscription::new(Q)).await.unwrap()
}

async fn next(consumer: &dyn Consumer) -> Delivery {
    let until = Instant::now() + SOON;
    loop {
        match consumer.receive(1, SOON).await {
            Ok(mut came) => return came.pop().expect("nothing came"),
            // The broker is not back yet.
            Err(error) => assert!(error.is_transient() && Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn ack(consumer: &dyn Consumer, deliveries: impl IntoIterator<Item = &Delivery>) {
    let verdicts: Vec<_> = deliveries.into_iter().map(|it| (it.receipt.clone(), Verdict::Ack)).collect();
    consumer.settle(&verdicts).await.unwrap().into_iter().for_each(|answer| assert!(answer.is_ok()));
}

async fn dead(queue: &dyn Queue) -> Vec<DeadLetter> {
    queue.dead_letters(&Q, &DeadFilter::all(), Page::first(500)).await.unwrap().dead_letters
}

/// When a consumer's connection is there again.
async fn restored(events: &mut Events) -> Instant {
    loop {
        match events.next().await.unwrap() {
            Event::ConnectionRestored { detail } if detail.contains("consumer") => return Instant::now(),
            _ => {}
        }
    }
}

async fn crash(broker: &RabbitBroker) {
    broker.kill9().await.unwrap();
    broker.start_again().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_the_first_message_comes_at_once_and_in_its_turn() {
    let broker = RabbitBroker::start().await.unwrap();
    let old = open(&broker).await;
    publish(&*old, 20_000).await;
    let standing = reader(&*old).await;
    ack(&*standing, [&next(&*standing).await]).await;
    sleep(ACK_WINDOW).await;
    let mut events = old.events();
    crash(&broker).await;
    let handed = async { (next(&*standing).await, Instant::now()) };
    let (restored, (first, handed)) = tokio::join!(restored(&mut events), handed);
    println!(
        "who was there is handed the first of 20,000 {:?} after it is connected again",
        handed.saturating_duration_since(restored)
    );
    let began = Instant::now();
    let new = open(&broker).await;
    let fresh = reader(&*new).await;
    println!("who comes has connected after {:?}", began.elapsed());
    let began = Instant::now();
    let second = next(&*fresh).await;
    println!("and is handed the second after {:?}", began.elapsed());
    for (delivery, body) in [(&first, "1"), (&second, "2")] {
        assert_eq!((delivery.message.payload().as_ref(), delivery.attempt), (body.as_bytes(), 1));
    }
    let began = Instant::now();
    let many = fresh.receive(500, SOON).await.unwrap();
    println!("the next {} come after {:?}", many.len(), began.elapsed());
    let bodies: Vec<usize> =
        many.iter().map(|it| String::from_utf8_lossy(it.message.payload()).parse().unwrap()).collect();
    assert!(bodies.iter().copied().eq(3..3 + many.len()), "out of turn: {bodies:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_crashes_bury_nothing_and_count_nothing_that_nobody_had() {
    const MANY: usize = 500;
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker).await;
    publish(&*queue, MANY).await;
    let consumer = reader(&*queue).await;
    let mut had: HashMap<String, u32> = HashMap::new();
    let mut seen = |delivery: &Delivery| {
        let times = had.entry(delivery.message.id().to_string()).or_default();
        *times += 1;
        assert!(delivery.attempt <= *times, "attempt {} at hand-out {times}", delivery.attempt);
    };
    for _ in 0..4 {
        for _ in 0..5 {
            seen(&next(&*consumer).await);
        }
        crash(&broker).await;
    }
    let (mut copies, began) = (0, Instant::now());
    loop {
        // A broker that has just crashed is away for a moment.
        let came = match consumer.receive(50, Duration::from_secs(2)).await {
            Err(error) if error.is_transient() && began.elapsed() < Duration::from_secs(60) => {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            came => came.unwrap(),
        };
        if came.is_empty() {
            break;
        }
        came.iter().for_each(&mut seen);
        ack(&*consumer, &came).await;
        copies += came.len();
    }
    println!("{copies} copies of {MANY}: a crash has undone the acks of the others");
    assert!(dead(&*queue).await.is_empty());
    assert_eq!(had.len(), MANY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kills_who_has_it_ends_also_when_the_broker_crashes_in_between() {
    let broker = RabbitBroker::start().await.unwrap();
    let keeper = open(&broker).await;
    publish(&*keeper, 1).await;
    let mut attempts = Vec::new();
    for nth in 0..8 {
        if nth == 2 {
            sleep(ACK_WINDOW).await;
            crash(&broker).await;
        }
        let victim = open(&broker).await;
        let consumer = reader(&*victim).await;
        let came = consumer.receive(1, Duration::from_secs(2)).await.unwrap();
        attempts.extend(came.iter().map(|it| it.attempt));
        if came.is_empty() {
            break;
        }
    }
    println!("attempts of what kills: {attempts:?}");
    let letters = dead(&*keeper).await;
    assert_eq!((letters.len(), letters[0].reason, letters[0].attempts), (1, DeadReason::MaxAttempts, 4));
    assert_eq!(attempts.last(), Some(&4));
    assert!(attempts.len() <= 5, "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_differ_bury_nothing() {
    const MANY: usize = 200;
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker).await;
    let ahead = ConnectOptions::new(broker.url()).clock_offset(TimeDelta::seconds(5));
    let ahead = PROVIDER.connect(ahead).await.unwrap();
    let mortal = |nth| Message::new(format!("{nth}")).with_ttl(Duration::from_secs(3));
    queue.publish(&Q.into(), (0..MANY).map(mortal).collect()).await.unwrap();
    let drained = async |consumer: Box<dyn Consumer>| {
        let mut count = 0;
        while let Some(delivery) = consumer.receive(1, Duration::from_millis(500)).await.unwrap().pop() {
            ack(&*consumer, [&delivery]).await;
            count += 1;
        }
        count
    };
    let began = Instant::now();
    let handed = join_all([drained(reader(&*queue).await), drained(reader(&*ahead).await)]).await;
    println!("right and ahead: {handed:?} in {:?}", began.elapsed());
    let letters = dead(&*queue).await;
    assert_eq!((handed.iter().sum::<usize>(), letters.len()), (MANY, 0), "{:?}", letters.first());
}
