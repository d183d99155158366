//! Others declare and delete queues while we publish to a topic: what that costs where thousands of queues are bound.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use polyqueue::{
    ConnectOptions, Destination, Message, MessageId, Pattern, Provider, Queue, QueueName, QueueSpec,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::measure::Duel;
use crate::{Outcome, PAYLOAD, PUBLISHERS, ROUNDS, ours};

/// Queues that are bound, and match nothing that is published.
const BOUND: usize = 5_000;
/// How many of them are declared at once.
const AT_ONCE: usize = 32;
/// How long each contender publishes.
const WINDOW: Duration = Duration::from_secs(3);

pub(crate) async fn run() -> Outcome {
    duel(polyqueue_memory::PROVIDER, "memory://changes", 100).await?;
    for (provider, a_second) in [(polyqueue_redis::PROVIDER, 100), (polyqueue_rabbitmq::PROVIDER, 20)] {
        if let Ok(url) = std::env::var(provider.url_var()) {
            duel(provider, &url, a_second).await?;
        }
    }
    Ok(())
}

/// Declarations and deletions: half of `a_second` each.
async fn duel(provider: Provider, url: &str, a_second: u32) -> Outcome {
    let namespace = format!("bench-changes-{}", MessageId::random().as_str().replace('-', ""));
    let options = ConnectOptions::new(url).namespace(namespace.get(..40).unwrap_or(&namespace));
    let publishing = provider.connect(options.clone()).await?;
    // Memory is one broker a handle.
    let changing = match provider.name() {
        "memory" => publishing.clone(),
        _ => provider.connect(options).await?,
    };
    let bystanders: Vec<QueueName> = (0..BOUND).map(|n| name("bystander", n)).collect::<Outcome<_>>()?;
    stream::iter(&bystanders)
        .map(|name| declare(&changing, name, true))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let (topic, names) = ours::bound(&publishing, 1).await?;
    let to = Destination::from(topic);
    println!("{}: {BOUND} queues are bound; `raw` is the same topic while nobody declares", provider.name());
    for (what, bound, wanted) in
        [("topic beside bound changes", true, 0.5), ("topic beside unbound changes", false, 0.9)]
    {
        let mut publish = Duel::default();
        for _ in 0..ROUNDS {
            publish.raw.push(published(&publishing, &to).await?);
            let change = changes(&changing, bound, a_second);
            tokio::select! {
                rate = published(&publishing, &to) => publish.ours.push(rate?),
                ended = change => ended?,
            }
            publishing.purge(&names[0], polyqueue::Purge::Waiting).await?;
        }
        publish.print(&format!("{} {what}", provider.name()), wanted);
    }
    for handle in [publishing, changing] {
        handle.close().await?;
    }
    Ok(())
}

fn name(what: &str, n: usize) -> Outcome<QueueName> {
    Ok(QueueName::new(format!("{what}.{n}"))?)
}

async fn declare(queue: &Arc<dyn Queue>, name: &QueueName, bound: bool) -> Outcome {
    let mut spec = QueueSpec::new(name.clone());
    if bound {
        spec = spec.bind(Pattern::new(format!("nothing.{name}.*"))?);
    }
    Ok(queue.declare(&spec).await?)
}

/// Goes on until it is dropped.
async fn changes(queue: &Arc<dyn Queue>, bound: bool, a_second: u32) -> Outcome {
    let mut turn = interval(Duration::from_secs(2) / a_second);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0.. {
        turn.tick().await;
        let name = name("changing", n % 1000)?;
        declare(queue, &name, bound).await?;
        queue.delete(&name).await?;
    }
    Ok(())
}

/// Messages a second, from 64 tasks, one at a time.
async fn published(queue: &Arc<dyn Queue>, to: &Destination) -> Outcome<f64> {
    let began = Instant::now();
    let one = async || {
        let (payload, mut count) = (Bytes::from(vec![b'x'; PAYLOAD]), 0_u64);
        while began.elapsed() < WINDOW {
            for answer in queue.publish(to, vec![Message::new(payload.clone())]).await? {
                answer?;
            }
            count += 1;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(count)
    };
    let all = stream::iter(0..PUBLISHERS)
        .map(|_| one())
        .buffer_unordered(PUBLISHERS)
        .try_fold(0, async |sum, count| Ok(sum + count));
    let sum: u64 = timeout(WINDOW * 10, all).await??;
    Ok(sum as f64 / began.elapsed().as_secs_f64())
}
