//! Broadcast: one request to a topic, several responders, and as many replies as come in time.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Job, Message, Pattern, Payload, Queue, QueueExt, QueueName, QueueSpec, Requester, RoutingKey, Worker,
    with,
};
use polyqueue_memory::MemoryQueue;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Quote {
    parcel_kg: u32,
}

impl Payload for Quote {
    const KIND: &'static str = "quote";
}

#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    carrier: String,
    cents: u32,
}

impl Payload for Offer {
    const KIND: &'static str = "offer";
}

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut carriers = tokio::task::JoinSet::new();
    for (carrier, cents_per_kg) in [("tortoise", 90), ("hare", 250), ("snail", 40)] {
        let name = QueueName::new(format!("carrier.{carrier}"))?;
        queue.declare(&QueueSpec::new(name.clone()).bind(Pattern::new("quote.#")?)).await?;
        let offer = with((carrier, cents_per_kg), async |(carrier, cents_per_kg), job: Job<Quote>| {
            Ok(Offer { carrier: carrier.into(), cents: cents_per_kg * job.payload.parcel_kg })
        });
        let mut stopped = stopped.clone();
        let stop = async move { stopped.wait_for(|stop| *stop).await.map(drop) };
        carriers.spawn(Worker::new(queue.clone()).on_request(offer).run([name], stop));
    }
    // One is bound and never answers: nobody waits for it longer than the timeout.
    queue.declare(&QueueSpec::new(QueueName::new("carrier.asleep")?).bind(Pattern::new("quote.*")?)).await?;

    let requester = Requester::open(queue.clone()).await?;
    let to = RoutingKey::new("quote.eu")?;
    let replies = requester.gather(&to, &Quote { parcel_kg: 3 }, 4, Duration::from_millis(500)).await?;
    let mut offers: Vec<Offer> = replies.into_iter().collect::<Result<_, _>>()?;
    offers.sort_by_key(|offer| offer.cents);
    println!("{offers:?}");
    assert_eq!((offers.len(), offers[0].cents), (3, 120));

    // Fire and forget is a message without a reply address.
    queue.publish_one(RoutingKey::new("quote.over")?, Message::of(&Quote { parcel_kg: 0 })?).await?;
    stop.send_replace(true);
    while let Some(ended) = carriers.join_next().await {
        ended.expect("no carrier panics")?;
    }
    queue.close().await
}
