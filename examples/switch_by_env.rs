//! The same program on memory, Redis and RabbitMQ: MESSAGE_QUEUE_PROVIDER chooses.
//!
//! ```sh
//! cargo run -p polyqueue-examples --example switch_by_env
//! MESSAGE_QUEUE_PROVIDER=redis REDIS_URL=redis://localhost cargo run -p polyqueue-examples --example switch_by_env
//! ```

use std::time::Duration;

use polyqueue::{
    Destination, Message, MessageId, QueueName, QueueSpec, Subscription, Verdict, connect_from_env,
};

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue = connect_from_env(&[
        polyqueue_memory::PROVIDER,
        polyqueue_redis::PROVIDER,
        polyqueue_rabbitmq::PROVIDER,
    ])
    .await?;
    let name = QueueName::new(format!("switch-{}", MessageId::random()))?;
    queue.declare(&QueueSpec::new(name.clone())).await?;

    let message = Message::new("the same everywhere").with_delay(Duration::from_millis(100));
    for answer in queue.publish(&Destination::from(&name), vec![message]).await? {
        answer?;
    }
    let consumer = queue.subscribe(&Subscription::new(name.clone())).await?;
    let deliveries = consumer.receive(1, Duration::from_secs(5)).await?;
    assert_eq!(deliveries.len(), 1);
    for delivery in deliveries {
        println!("{}: {:?}", queue.info().provider, delivery.message.payload());
        consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await?;
    }
    queue.delete(&name).await?;
    queue.close().await
}
