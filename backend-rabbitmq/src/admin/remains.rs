//! What is left on a broker of the way in which messages were delayed before: a cascade of queues that the broker itself moved.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use polyqueue::Result;

use crate::connection::fault::{is_missing, is_of_a_channel};
use crate::connection::session::Session;
use crate::wire::delay::DUE;

/// How many levels it had, and how many queues on each.
const LEVELS: usize = 10;
const DIGITS: usize = 9;

/// The names of its objects that are there.
pub(crate) async fn remains(session: &Session) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for level in 0..LEVELS {
        let exchange = format!("polyqueue.delay.{level}");
        if !has_exchange(session, &exchange).await? {
            continue;
        }
        for digit in 1..=DIGITS {
            let queue = format!("{exchange}.{digit}");
            if has_queue(session, &queue).await? {
                found.push(queue);
            }
        }
        found.push(exchange);
    }
    for exchange in ["polyqueue.delay.complete", "polyqueue.unrouted"] {
        if has_exchange(session, exchange).await? {
            found.push(exchange.to_owned());
        }
    }
    if has_queue(session, "polyqueue.unrouted").await? {
        found.push("polyqueue.unrouted (queue)".to_owned());
    }
    if has_exchange(session, DUE).await? && !is_direct(session, DUE).await? {
        found.push(format!("{DUE} (of another kind)"));
    }
    Ok(found)
}

async fn has_exchange(session: &Session, name: &str) -> Result<bool> {
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let none = FieldTable::default();
    let channel = session.channel().await?;
    there(session, channel.exchange_declare(name.into(), ExchangeKind::Direct, options, none).await)
}

async fn has_queue(session: &Session, name: &str) -> Result<bool> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let channel = session.channel().await?;
    there(session, channel.queue_declare(name.into(), options, FieldTable::default()).await)
}

fn there<T>(session: &Session, asked: lapin::Result<T>) -> Result<bool> {
    match asked {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(session.fault(&error)),
    }
}

/// Whether one that is there is what is declared now: to declare it once more changes nothing, and is refused where it is not.
async fn is_direct(session: &Session, name: &str) -> Result<bool> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let none = FieldTable::default();
    let channel = session.channel().await?;
    match channel.exchange_declare(name.into(), ExchangeKind::Direct, options, none).await {
        Ok(()) => Ok(true),
        Err(error) if is_of_a_channel(&error) && error.to_string().contains("PRECONDITION") => Ok(false),
        Err(error) => Err(session.fault(&error)),
    }
}
