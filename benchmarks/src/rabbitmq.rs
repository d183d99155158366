//! RabbitMQ: polyqueue beside raw lapin with confirms, on the same kind of queue, durable, persistent and mandatory.

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use polyqueue::ConnectOptions;

use crate::measure::{Duel, rate};
use crate::{BATCH, Outcome, PAYLOAD, PUBLISHERS, ROUNDS, ours};

const MESSAGES: usize = 20_000 / PUBLISHERS * PUBLISHERS;
const QUEUE: &str = "bench-raw";
const PERSISTENT: u8 = 2;

pub(crate) async fn run() -> Outcome {
    let url =
        std::env::var("RABBITMQ_URL").map_err(|_| "RABBITMQ_URL is not set: run under scripts/brokers")?;
    let queue = polyqueue_rabbitmq::PROVIDER.connect(ConnectOptions::new(&url).namespace("bench")).await?;
    let publisher = Connection::connect(&url, ConnectionProperties::default()).await?;
    let consumer = Connection::connect(&url, ConnectionProperties::default()).await?;
    let (mut publishing, mut consuming) = (Duel::default(), Duel::default());
    for _ in 0..ROUNDS {
        let name = ours::declared(&queue).await?;
        let channel = publisher.create_channel().await?;
        prepare(&channel, QUEUE).await?;
        publishing.raw.push(rate(MESSAGES, publish(channel)).await?);
        publishing.ours.push(rate(MESSAGES, ours::publish(queue.clone(), name.clone(), MESSAGES)).await?);
        consuming.raw.push(rate(MESSAGES, consume(consumer.create_channel().await?)).await?);
        consuming
            .ours
            .push(rate(MESSAGES, ours::consume(queue.clone(), name.clone(), MESSAGES, BATCH)).await?);
        queue.delete(&name).await?;
    }
    publishing.print("rabbitmq confirmed publish", 0.8);
    consuming.print("rabbitmq consume + ack", 0.6);
    queue.close().await?;
    Ok(())
}

/// A queue of the kind that ours are, and confirms.
pub(crate) async fn prepare(channel: &Channel, name: &str) -> Outcome {
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-priority".into(), AMQPValue::ShortShortUInt(10));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), durable, arguments).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(())
}

/// Of a message like ours.
pub(crate) fn properties() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(PERSISTENT).with_priority(5)
}

async fn publish(channel: Channel) -> Outcome {
    let payload = vec![b'x'; PAYLOAD];
    let tasks = (0..PUBLISHERS).map(|_| {
        let (channel, payload) = (channel.clone(), payload.clone());
        tokio::spawn(async move {
            let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
            for _ in 0..MESSAGES / PUBLISHERS {
                let properties = properties();
                channel
                    .basic_publish("".into(), QUEUE.into(), mandatory, &payload, properties)
                    .await?
                    .await?;
            }
            Ok::<_, lapin::Error>(())
        })
    });
    for done in try_join_all(tasks).await? {
        done?;
    }
    Ok(())
}

async fn consume(channel: Channel) -> Outcome {
    channel.basic_qos(BATCH as u16, BasicQosOptions::default()).await?;
    let mut deliveries = channel
        .basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    for _ in 0..MESSAGES {
        let delivery = deliveries.next().await.ok_or("the consumer ended")??;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    channel.close(200, "done".into()).await?;
    Ok(())
}
