//! Redis: polyqueue beside raw XADD, and beside raw XREADGROUP, XACK and XDEL; topics with ten queues beside one.

use std::sync::Arc;

use futures_util::future::try_join_all;
use polyqueue::{ConnectOptions, Queue};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, AsyncConnectionConfig, Client};

use crate::measure::{Duel, rate};
use crate::{BATCH, Outcome, PAYLOAD, PUBLISHERS, ROUNDS, ours};

const MESSAGES: usize = 100_000 / PUBLISHERS * PUBLISHERS;
const TO_TOPICS: usize = MESSAGES / 5;
const STREAM: &str = "bench-raw";
const GROUP: &str = "g";

pub(crate) fn url() -> Outcome<String> {
    std::env::var("REDIS_URL").map_err(|_| "REDIS_URL is not set: run under scripts/brokers".into())
}

pub(crate) async fn run() -> Outcome {
    let url = url()?;
    let queue = polyqueue_redis::PROVIDER.connect(ConnectOptions::new(&url).namespace("bench")).await?;
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    let raw = Client::open(url)?.get_multiplexed_async_connection_with_config(&patient).await?;
    let (mut publishing, mut consuming) = (Duel::default(), Duel::default());
    for _ in 0..ROUNDS {
        let name = ours::declared(&queue).await?;
        prepare(raw.clone()).await?;
        publishing.raw.push(rate(MESSAGES, publish(raw.clone())).await?);
        publishing.ours.push(rate(MESSAGES, ours::publish(queue.clone(), name.clone(), MESSAGES)).await?);
        consuming.raw.push(rate(MESSAGES, consume(raw.clone())).await?);
        consuming.ours.push(rate(MESSAGES, ours::consume(queue.clone(), name.clone(), MESSAGES, 0)).await?);
        queue.delete(&name).await?;
    }
    publishing.print("redis publish, 64 tasks", 0.5);
    consuming.print("redis consume + ack at 100", 0.4);
    fan_out(&queue).await?;
    queue.close().await?;
    Ok(())
}

/// What a message to a topic costs with ten queues, beside one queue: at most five times as much.
async fn fan_out(queue: &Arc<dyn Queue>) -> Outcome {
    let mut duel = Duel::default();
    for _ in 0..ROUNDS {
        for (queues, rates) in [(1, &mut duel.raw), (10, &mut duel.ours)] {
            let (topic, names) = ours::bound(queue, queues).await?;
            rates.push(rate(TO_TOPICS, ours::publish(queue.clone(), topic, TO_TOPICS)).await?);
            for name in names {
                queue.delete(&name).await?;
            }
        }
    }
    duel.print_as("redis publish to a topic", ["10 queues", "1 queue"], 0.2);
    Ok(())
}

async fn prepare(mut raw: MultiplexedConnection) -> Outcome {
    let _: () = raw.del(STREAM).await?;
    let _: () = raw.xgroup_create_mkstream(STREAM, GROUP, "0").await?;
    Ok(())
}

async fn publish(raw: MultiplexedConnection) -> Outcome {
    let payload = vec![b'x'; PAYLOAD];
    let tasks = (0..PUBLISHERS).map(|_| {
        let (mut raw, payload) = (raw.clone(), payload.clone());
        tokio::spawn(async move {
            for _ in 0..MESSAGES / PUBLISHERS {
                let _: String = raw.xadd(STREAM, "*", &[("data", &payload)]).await?;
            }
            Ok::<_, redis::RedisError>(())
        })
    });
    for done in try_join_all(tasks).await? {
        done?;
    }
    Ok(())
}

async fn consume(mut raw: MultiplexedConnection) -> Outcome {
    let options = StreamReadOptions::default().group(GROUP, "c").count(BATCH);
    let mut left = MESSAGES;
    while left > 0 {
        let reply: StreamReadReply = raw.xread_options(&[STREAM], &[">"], &options).await?;
        let ids: Vec<String> = reply.keys.into_iter().flat_map(|key| key.ids).map(|entry| entry.id).collect();
        left -= ids.len();
        let _: usize = raw.xack(STREAM, GROUP, &ids).await?;
        let _: usize = raw.xdel(STREAM, &ids).await?;
    }
    Ok(())
}
