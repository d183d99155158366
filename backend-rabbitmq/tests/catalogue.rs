//! The catalogue, while its broker comes back and while others write it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use polyqueue::{ConnectOptions, Error, Message, Pattern, Queue, QueueName, QueueSpec, RoutingKey};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;

const QUEUE: QueueName = QueueName::from_static("q");
const STREAM: &str = "polyqueue.catalogue";
const BEGIN: &str = r#"{"op":"begin"}"#;
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with one queue, whose catalogue cannot be read, and a handle that has not read it before.
struct Bench {
    broker: RabbitBroker,
    queue: Arc<dyn Queue>,
    channel: Channel,
    _connection: Connection,
}

impl Bench {
    async fn start() -> Self {
        let broker = RabbitBroker::start().await.unwrap();
        let connect = || PROVIDER.connect(ConnectOptions::new(broker.url()));
        let first = connect().await.unwrap();
        first.declare(&QueueSpec::new(QUEUE)).await.unwrap();
        first.close().await.unwrap();
        let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel.queue_delete(STREAM.into(), QueueDeleteOptions::default()).await.unwrap();
        let queue = connect().await.unwrap();
        // What publishes has its channels before anybody counts them.
        queue.health().await;
        Self { broker, queue, channel, _connection: connection }
    }

    /// How many channels were closed so far: a channel ends with each look at a stream.
    async fn closed_channels(&self) -> u64 {
        let closed = "element(5, hd(ets:lookup(connection_churn_metrics, node())))";
        self.broker.eval(closed).await.unwrap().trim().parse().unwrap()
    }

    async fn restore(&self) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(20 * 1024 * 1024));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        self.channel.queue_declare(STREAM.into(), durable, arguments).await.unwrap();
        append(&self.channel, BEGIN).await;
        append(&self.channel, r#"{"op":"declare","queue":"q","address":"a"}"#).await;
    }
}

async fn append(channel: &Channel, record: &str) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let publish = channel.basic_publish("".into(), STREAM.into(), options, record.as_bytes(), properties);
    assert!(publish.await.unwrap().await.unwrap().is_ack());
}

#[tokio::test]
async fn a_catalogue_that_cannot_be_read_yet_is_read_again() {
    let bench = Bench::start().await;
    let before = bench.closed_channels().await;
    let queue = bench.queue.clone();
    let asked = tokio::spawn(async move { queue.stats(&QUEUE).await });
    // One look whether there is a catalogue, and at least two in vain at the catalogue.
    let looks = async {
        while !asked.is_finished() && bench.closed_channels().await < before + 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.unwrap();
    assert!(!asked.is_finished(), "{:?}", asked.await);
    bench.restore().await;
    let answered = async {
        let mut answer = asked.await.unwrap();
        // A look at the very moment in which the stream is made can end the connection; that it is missing nobody may say.
        while let Err(Error::Unavailable { .. }) = answer {
            answer = bench.queue.stats(&QUEUE).await;
        }
        answer.unwrap()
    };
    assert_eq!(tokio::time::timeout(PATIENCE, answered).await.unwrap().ready, 0);
}

#[tokio::test]
async fn a_catalogue_that_is_never_readable_is_no_proof_that_a_queue_is_missing() {
    let bench = Bench::start().await;
    let error = bench.queue.stats(&QUEUE).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.to_string().contains(STREAM), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_while_it_is_read_makes_nothing_forgotten() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
    queue.declare(&QueueSpec::new(QUEUE).bind(Pattern::new("a").unwrap())).await.unwrap();
    // A delayed message to a topic: from now on the handle follows the catalogue beside reading it.
    let later = Message::new("later").with_delay(PATIENCE);
    queue.publish(&RoutingKey::new("a").unwrap().into(), vec![later]).await.unwrap();

    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let others = tokio::spawn(async move {
        loop {
            append(&channel, BEGIN).await;
        }
    });
    for read in 0..300 {
        assert_eq!(queue.queues().await.unwrap().len(), 1, "read {read}");
    }
    others.abort();
}
