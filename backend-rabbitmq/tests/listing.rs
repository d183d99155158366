//! Everything but the listing goes on, whatever became of the catalogue: it was taken away, emptied, replaced by another's that is shorter
//! or longer or knows our queue at a wrong address, or by what cannot be read.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use polyqueue::{
    ConnectOptions, DeadFilter, Dedup, Error, Message, Overflow, Page, Pattern, Purge, Queue, QueueExt,
    QueueName, QueueSpec, RoutingKey, Settled, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::{Instant, timeout};

const Q: QueueName = QueueName::from_static("q");
const BOUND: QueueName = QueueName::from_static("bound");
const KEYED: QueueName = QueueName::from_static("keyed");
const CATALOGUE: &str = "polyqueue.catalogue";
const MOMENT: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);

/// What became of the catalogue.
#[derive(Clone, Debug)]
enum Became {
    Gone,
    /// Another one, that says this.
    Anothers(Vec<String>),
    /// Something that says nothing.
    Unreadable,
}

fn states() -> Vec<Became> {
    let declare =
        |queue: &str, address: &str| format!(r#"{{"op":"declare","queue":"{queue}","address":"{address}"}}"#);
    let others = |count: usize| (0..count).map(|n| declare(&format!("other-{n}"), &n.to_string())).collect();
    vec![
        Became::Gone,
        Became::Anothers(Vec::new()),
        Became::Anothers(others(1)),
        Became::Anothers(others(40)),
        Became::Anothers(vec![declare("q", "nowhere")]),
        Became::Unreadable,
    ]
}

async fn make(channel: &Channel, became: &Became) {
    channel.queue_delete(CATALOGUE.into(), QueueDeleteOptions::default()).await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    match became {
        Became::Gone => {}
        Became::Unreadable => {
            channel.queue_declare(CATALOGUE.into(), durable, arguments).await.unwrap();
        }
        Became::Anothers(records) => {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
            arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(20 * 1024 * 1024));
            arguments.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(1024 * 1024));
            channel.queue_declare(CATALOGUE.into(), durable, arguments).await.unwrap();
            for record in records {
                let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
                let record = record.as_bytes();
                let publish = channel.basic_publish("".into(), CATALOGUE.into(), options, record, properties);
                assert!(publish.await.unwrap().await.unwrap().is_ack());
            }
        }
    }
}

async fn connect(node: &RabbitBroker) -> Arc<dyn Queue> {
    PROVIDER.connect(ConnectOptions::new(node.url())).await.unwrap()
}

/// Published, delayed, to a topic; then each is retried at once, retried after a moment, and acked or made a dead letter.
async fn goes_on(publisher: &Arc<dyn Queue>, reader: &Arc<dyn Queue>) {
    publisher.publish_one(Q, Message::new("now")).await.unwrap();
    publisher.publish_one(Q, Message::new("later").with_delay(MOMENT)).await.unwrap();
    let topic = RoutingKey::new("t").unwrap();
    publisher.publish(&topic.into(), vec![Message::new("topic")]).await.unwrap().remove(0).unwrap();
    let consumer = reader.subscribe(&Subscription::new(Q)).await.unwrap();
    let mut over = Vec::new();
    while over.len() < 3 {
        let came = consumer.receive(1, SOON).await.unwrap().pop().expect("nothing came");
        let text = String::from_utf8(came.message.payload().to_vec()).unwrap();
        let verdict = match came.attempt {
            1 => Verdict::Retry { after: Duration::ZERO, error: "once".into() },
            2 => Verdict::Retry { after: MOMENT, error: "twice".into() },
            _ if text == "topic" => Verdict::reject("not for me"),
            _ => Verdict::Ack,
        };
        let is_last = came.attempt > 2;
        let settled = consumer.settle(&[(came.receipt, verdict)]).await.unwrap().remove(0).unwrap();
        if is_last && settled != Settled::LeaseLost {
            over.push(text);
        }
    }
    over.sort();
    assert_eq!(over, ["later", "now", "topic"]);
    assert_eq!(reader.purge(&Q, Purge::Waiting).await.unwrap(), 0);
    let page = reader.dead_letters(&Q, &DeadFilter::default(), Page::first(10)).await.unwrap();
    let ids: Vec<_> = page.dead_letters.iter().map(|letter| letter.id.clone()).collect();
    assert_eq!(reader.discard(&Q, &ids).await.unwrap(), [true]);
    let nobody = QueueName::from_static("nobody");
    let missing = publisher.publish_one(&nobody, Message::new("")).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
}

/// Who acknowledges frees the key, although it never read what the queue is declared to be.
async fn keys_are_freed(publisher: &Arc<dyn Queue>, reader: &Arc<dyn Queue>) {
    let publish = || publisher.publish_one(KEYED, Message::new("keyed").with_dedup_key("k"));
    let consumer = reader.subscribe(&Subscription::new(KEYED)).await.unwrap();
    for attempts in 1..4 {
        assert_eq!(publish().await.unwrap().duplicate_of, None);
        assert!(publish().await.unwrap().duplicate_of.is_some());
        for attempt in 1..=attempts {
            let came = consumer.receive(1, SOON).await.unwrap().pop().expect("nothing came");
            assert_eq!(came.attempt, attempt);
            let after = MOMENT * (attempt - 1);
            let retry = Verdict::Retry { after, error: "again".into() };
            let end = if attempts == 3 { Verdict::reject("no") } else { Verdict::Ack };
            let verdict = if attempt < attempts { retry } else { end };
            consumer.settle(&[(came.receipt, verdict)]).await.unwrap().remove(0).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_but_the_listing_goes_on_without_it() {
    let node = RabbitBroker::start().await.unwrap();
    let old = connect(&node).await;
    let spec = QueueSpec::new(Q).bind(Pattern::new("t").unwrap());
    old.declare(&spec).await.unwrap();
    old.declare(&QueueSpec::new(BOUND).bound(1, Overflow::Reject)).await.unwrap();
    let dedup = Dedup::until_ack(LONG);
    old.declare(&QueueSpec::new(KEYED).dedup(dedup)).await.unwrap();
    let connection = Connection::connect(&node.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for became in states() {
        make(&channel, &became).await;
        let (new, began) = (connect(&node).await, Instant::now());
        for (publisher, reader) in [(&old, &new), (&new, &old)] {
            let done = timeout(LONG, goes_on(publisher, reader)).await;
            assert!(done.is_ok(), "{became:?}");
        }
        keys_are_freed(&old, &new).await;
        // Who has known it, knows it.
        old.purge(&BOUND, Purge::Waiting).await.unwrap();
        assert!(old.publish_one(&BOUND, Message::new("")).await.is_ok(), "{became:?}");
        let full = old.publish_one(&BOUND, Message::new("")).await;
        assert!(matches!(full, Err(Error::Full { .. })), "{became:?}: {full:?}");
        println!("{became:?}: {:?}", began.elapsed());
        if matches!(became, Became::Unreadable) {
            let detail = new.health().await.detail;
            assert!(detail.contains("cannot be read"), "{detail}");
        } else {
            // Who declares lists.
            new.declare(&spec).await.unwrap();
            assert!(new.queues().await.unwrap().iter().any(|spec| spec.name == Q), "{became:?}");
        }
        new.close().await.unwrap();
    }
}

/// The exchange that says so is a marker, the stream is the thing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_which_nothing_says_that_it_is_there_is_read() {
    let node = RabbitBroker::start().await.unwrap();
    let old = connect(&node).await;
    old.declare(&QueueSpec::new(BOUND).bound(1, Overflow::Reject)).await.unwrap();
    let connection = Connection::connect(&node.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.exchange_delete(CATALOGUE.into(), ExchangeDeleteOptions::default()).await.unwrap();
    let new = connect(&node).await;
    assert_eq!(new.queues().await.unwrap().len(), 1);
    new.publish_one(&BOUND, Message::new("")).await.unwrap();
    let full = new.publish_one(&BOUND, Message::new("")).await;
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
}
