//! The catalogue, while others write it, and after they have written much.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use polyqueue::{ConnectOptions, Message, Pattern, QueueName, QueueSpec, RoutingKey};
use polyqueue_conformance::Link;
use polyqueue_conformance::broker::{Broker, Proxy, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;

const QUEUE: QueueName = QueueName::from_static("q");
const STREAM: &str = "polyqueue.catalogue";
const BEGIN: &str = r#"{"op":"begin"}"#;
const PATIENCE: Duration = Duration::from_secs(60);
const MANY: usize = 30_000;

async fn append(channel: &Channel, record: &str) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let publish = channel.basic_publish("".into(), STREAM.into(), options, record.as_bytes(), properties);
    assert!(publish.await.unwrap().await.unwrap().is_ack());
}

/// What was declared and deleted again is read once more by nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_of_many_declarations_opens_like_a_new_one() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
    queue.declare(&QueueSpec::new(QUEUE)).await.unwrap();
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for turn in 0..MANY / 1_000 {
        let records = (0..500).flat_map(|n| {
            let of = format!(r#""queue":"past-{n}","address":"{turn}-{n}""#);
            [format!(r#"{{"op":"declare",{of}}}"#), format!(r#"{{"op":"delete",{of}}}"#)]
        });
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let mut sent = Vec::new();
        for record in records {
            let publish = channel.basic_publish(
                "".into(),
                STREAM.into(),
                options,
                record.as_bytes(),
                properties.clone(),
            );
            sent.push(publish.await.unwrap());
        }
        for confirm in sent {
            assert!(confirm.await.unwrap().is_ack());
        }
    }
    // Whoever reads it all says for others where to begin.
    assert_eq!(queue.queues().await.unwrap().len(), 1);
    for _ in 0..3 {
        let proxy = Proxy::start(broker.port()).unwrap();
        let options = ConnectOptions::new(proxy.through(&broker.url()));
        let other = PROVIDER.connect(options).await.unwrap();
        assert_eq!(other.queues().await.unwrap().len(), 1);
        let read = proxy.traffic().to_client;
        assert!(read < 1_000_000, "{read} bytes were read");
        other.close().await.unwrap();
        for _ in 0..200 {
            append(&channel, BEGIN).await; // of who says nothing
        }
    }
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
