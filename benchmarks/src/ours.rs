//! What polyqueue does in every benchmark, whatever the broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use polyqueue::{
    Consumer, Destination, Message, Pattern, Queue, QueueName, QueueSpec, RoutingKey, Subscription, Verdict,
};

use crate::{BATCH, Outcome, PAYLOAD, PUBLISHERS};

/// A fresh queue.
pub(crate) async fn declared(queue: &Arc<dyn Queue>) -> Outcome<QueueName> {
    let name = QueueName::new(format!("bench-{}", polyqueue::MessageId::random()))?;
    queue.declare(&QueueSpec::new(name.clone())).await?;
    Ok(name)
}

/// Fresh queues that are bound to one topic, and the topic.
pub(crate) async fn bound(queue: &Arc<dyn Queue>, queues: usize) -> Outcome<(RoutingKey, Vec<QueueName>)> {
    let topic = format!("bench.{}", polyqueue::MessageId::random());
    let mut names = Vec::new();
    for n in 0..queues {
        let name = QueueName::new(format!("{topic}.{n}"))?;
        queue.declare(&QueueSpec::new(name.clone()).bind(Pattern::new(&topic)?)).await?;
        names.push(name);
    }
    Ok((RoutingKey::new(topic)?, names))
}

/// 64 tasks, each one message at a time.
pub(crate) async fn publish(queue: Arc<dyn Queue>, to: impl Into<Destination>, messages: usize) -> Outcome {
    let (payload, to) = (Bytes::from(vec![b'x'; PAYLOAD]), to.into());
    let tasks = (0..PUBLISHERS).map(|_| {
        let (queue, to, payload) = (queue.clone(), to.clone(), payload.clone());
        tokio::spawn(async move {
            for _ in 0..messages / PUBLISHERS {
                for answer in queue.publish(&to, vec![Message::new(payload.clone())]).await? {
                    answer?;
                }
            }
            Ok::<_, polyqueue::Error>(())
        })
    });
    for done in try_join_all(tasks).await? {
        done?;
    }
    Ok(())
}

/// One consumer: receive up to 100, ack them, until all came.
pub(crate) async fn consume(
    queue: Arc<dyn Queue>,
    name: QueueName,
    messages: usize,
    prefetch: usize,
) -> Outcome {
    let subscription = Subscription::new(name).prefetch(prefetch);
    let consumer = queue.subscribe(&subscription).await?;
    drain(&*consumer, messages).await
}

pub(crate) async fn drain(consumer: &dyn Consumer, messages: usize) -> Outcome {
    let mut left = messages;
    while left > 0 {
        let deliveries = consumer.receive(BATCH, Duration::from_secs(5)).await?;
        if deliveries.is_empty() {
            return Err(format!("{left} of {messages} messages never came").into());
        }
        left -= deliveries.len();
        let verdicts: Vec<_> = deliveries.into_iter().map(|d| (d.receipt, Verdict::Ack)).collect();
        for answer in consumer.settle(&verdicts).await? {
            answer?;
        }
    }
    Ok(())
}
