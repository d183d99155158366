//! What is to be on the broker, as data.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

/// One object, or one binding, made or gone; to make a change again changes nothing.
pub(crate) enum Change {
    Queue {
        name: String,
        arguments: FieldTable,
    },
    /// A queue that is this connection's alone, and goes with its last consumer.
    OwnQueue {
        name: String,
    },
    NoQueue {
        name: String,
    },
    Exchange {
        name: String,
        kind: ExchangeKind,
        arguments: FieldTable,
    },
    /// An exchange that goes with the last queue that is bound to it.
    OwnedExchange {
        name: String,
        arguments: FieldTable,
    },
    Bind {
        queue: String,
        exchange: String,
        pattern: String,
    },
    Unbind {
        queue: String,
        exchange: String,
        pattern: String,
    },
    BindExchange {
        exchange: String,
        source: String,
        pattern: String,
    },
}

/// Makes it.
pub(crate) async fn make(channel: &Channel, change: Change) -> lapin::Result<()> {
    let none = FieldTable::default();
    match change {
        Change::Queue { name, arguments } => {
            let options = QueueDeclareOptions { durable: true, ..Default::default() };
            channel.queue_declare(name.into(), options, of_a_type(arguments)).await.map(drop)
        }
        Change::OwnQueue { name } => {
            let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
            channel.queue_declare(name.into(), options, of_a_type(none)).await.map(drop)
        }
        Change::NoQueue { name } => {
            channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.map(drop)
        }
        Change::Exchange { name, kind, arguments } => {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            channel.exchange_declare(name.into(), kind, options, arguments).await
        }
        Change::OwnedExchange { name, arguments } => {
            let options = ExchangeDeclareOptions { durable: true, auto_delete: true, ..Default::default() };
            channel.exchange_declare(name.into(), ExchangeKind::Direct, options, arguments).await
        }
        Change::Bind { queue, exchange, pattern } => {
            let options = QueueBindOptions::default();
            channel.queue_bind(queue.into(), exchange.into(), pattern.into(), options, none).await
        }
        Change::Unbind { queue, exchange, pattern } => {
            channel.queue_unbind(queue.into(), exchange.into(), pattern.into(), none).await
        }
        Change::BindExchange { exchange, source, pattern } => {
            let options = ExchangeBindOptions::default();
            channel.exchange_bind(exchange.into(), source.into(), pattern.into(), options, none).await
        }
    }
}

/// A virtual host may have another type for queues that say none.
fn of_a_type(mut arguments: FieldTable) -> FieldTable {
    if !arguments.contains_key("x-queue-type") {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    }
    arguments
}
