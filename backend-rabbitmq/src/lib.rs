//! RabbitMQ backend.

mod address;
mod ask;
mod birth;
mod cascade;
mod catalogue;
mod consumer;
mod core;
mod dead;
mod fault;
mod kind;
mod link;
mod names;
mod publisher;
mod queue;
mod topology;
mod unrouted;
mod wire;

use std::sync::Arc;

use polyqueue::{ConnectOptions, Connecting, Provider, Queue};

const PROVIDER_NAME: &str = "rabbitmq";

/// RabbitMQ, for URLs that begin with `amqp://`; the URL stands in `RABBITMQ_URL`.
pub const PROVIDER: Provider = Provider::new(
    PROVIDER_NAME,
    &["amqp", "amqps"],
    "RABBITMQ_URL",
    "amqp://guest:guest@127.0.0.1:5672/%2f",
    connect,
);

fn connect(options: ConnectOptions) -> Connecting {
    Box::pin(async move { Ok(Arc::new(queue::RabbitQueue::connect(options).await?) as Arc<dyn Queue>) })
}
