//! Memory: published, delivered and acked at the same time, on two cores.

use std::sync::Arc;

use polyqueue::Queue;

use crate::measure::{print_rate, rate};
use crate::{Outcome, PUBLISHERS, ROUNDS, ours};

const MESSAGES: usize = 1_000_000 / PUBLISHERS * PUBLISHERS;

pub(crate) async fn run() -> Outcome {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let queue: Arc<dyn Queue> = Arc::new(polyqueue_memory::MemoryQueue::new());
        let name = ours::declared(&queue).await?;
        let both = async {
            let consumer = tokio::spawn(ours::consume(queue.clone(), name.clone(), MESSAGES, 0));
            ours::publish(queue.clone(), name.clone(), MESSAGES).await?;
            consumer.await?
        };
        rates.push(rate(MESSAGES, both).await?);
    }
    print_rate("memory publish + consume + ack", &rates, 300_000.0);
    Ok(())
}
