//! Topics: a message goes to a routing key, and a copy reaches every queue that is bound by a matching pattern.

use std::time::Duration;

use polyqueue::{
    Admin, Error, Message, Pattern, Queue, QueueExt, QueueName, QueueSpec, RoutingKey, Subscription, Verdict,
};
use polyqueue_memory::MemoryQueue;

const BILLING: QueueName = QueueName::from_static("billing");
const AUDIT: QueueName = QueueName::from_static("audit");

async fn read_all(queue: &dyn Queue, name: QueueName) -> polyqueue::Result<Vec<String>> {
    let consumer = queue.subscribe(&Subscription::new(name)).await?;
    let mut texts = Vec::new();
    for delivery in consumer.receive(10, Duration::ZERO).await? {
        texts.push(String::from_utf8_lossy(delivery.message.payload()).into_owned());
        consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await?;
    }
    Ok(texts)
}

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue = MemoryQueue::new();
    // `*` stands for one word, `#` for any number of words.
    queue.declare(&QueueSpec::new(BILLING).bind(Pattern::new("order.paid.*")?)).await?;
    queue.declare(&QueueSpec::new(AUDIT).bind(Pattern::new("order.#")?)).await?;

    queue.publish_one(RoutingKey::new("order.paid.eu")?, Message::new("17 EUR")).await?;
    queue.publish_one(RoutingKey::new("order.cancelled")?, Message::new("never mind")).await?;
    assert_eq!(read_all(&queue, BILLING).await?, ["17 EUR"]);
    assert_eq!(read_all(&queue, AUDIT).await?, ["17 EUR", "never mind"]);

    // Nothing is published into the void.
    let nobody = queue.publish_one(RoutingKey::new("weather.sunny")?, Message::new("29 °C")).await;
    assert!(matches!(nobody, Err(Error::NotFound(_))));

    queue.unbind(&BILLING, &Pattern::new("order.paid.*")?).await?;
    queue.publish_one(RoutingKey::new("order.paid.us")?, Message::new("3 USD")).await?;
    assert_eq!(read_all(&queue, BILLING).await?, Vec::<String>::new());
    println!("the audit also saw {:?}", read_all(&queue, AUDIT).await?);
    queue.close().await
}
