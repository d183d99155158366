//! Whether consumers make progress: a receive that waits beside messages that are ready does not.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::QueueName;

/// A receive that has waited so long …
const LONG: Duration = Duration::from_millis(1_200);
/// … and waits still so much later, was given nothing in between …
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// For so long queues are counted, one after the other; the next look goes on with those that were not reached.
const COUNTING: Duration = Duration::from_millis(400);

/// A consumer, as far as it can be watched.
pub trait Receiving: Send + Sync + 'static {
    /// What it reads.
    fn queue(&self) -> &QueueName;
    /// Since when it has waited and was given nothing: [`PendingReceives::unfed_since`](super::PendingReceives::unfed_since).
    fn unfed_since(&self) -> Option<Instant>;
}

/// A consumer, and since when it has waited.
type Waiting = (Arc<dyn Receiving>, Instant);

/// The consumers of a handle.
#[derive(Default)]
pub struct ProgressWatch {
    consumers: Mutex<Vec<Weak<dyn Receiving>>>,
    /// How many looks at a queue there have been: where the next begins.
    looks: AtomicUsize,
}

impl ProgressWatch {
    /// One more is watched, for as long as it lives.
    pub fn add(&self, consumer: &Arc<impl Receiving>) {
        let consumer: Weak<dyn Receiving> = Arc::downgrade(consumer) as Weak<dyn Receiving>;
        let mut watched = self.consumers.lock();
        watched.retain(|other| other.strong_count() > 0);
        watched.push(consumer);
    }

    /// The first consumer that stands still, in words: one that was given nothing for more than a second while the broker counts
    /// ready messages in its queue, now and a moment later. `ready` counts them; `None` where it cannot be known now. It takes some
    /// 600 ms at most: of many queues each look counts a part.
    pub async fn standing_still<F: Future<Output = Option<u64>>>(
        &self,
        ready: impl Fn(QueueName) -> F,
    ) -> Option<String> {
        let (consumer, since) = timeout(COUNTING, self.suspect(&ready)).await.ok().flatten()?;
        sleep(LOOK_AGAIN).await;
        let queue = consumer.queue().clone();
        let count = ready(queue.clone()).await.unwrap_or(0);
        let (still, waited) = (consumer.unfed_since() == Some(since), since.elapsed());
        (count > 0 && still)
            .then(|| format!("a receive on {queue} has waited {waited:.1?} while {count} messages are ready"))
    }

    /// The first that waits beside ready messages, from where the look before ended.
    async fn suspect<F: Future<Output = Option<u64>>>(
        &self,
        ready: &impl Fn(QueueName) -> F,
    ) -> Option<Waiting> {
        let mut waiting = self.waiting();
        let behind = self.looks.load(Relaxed) % waiting.len().max(1);
        waiting.rotate_left(behind);
        for (consumer, since) in waiting {
            let count = ready(consumer.queue().clone()).await;
            if count.is_some_and(|count| count > 0) {
                return Some((consumer, since));
            }
            self.looks.fetch_add(1, Relaxed);
        }
        None
    }

    /// Of each queue one that has waited long.
    fn waiting(&self) -> Vec<Waiting> {
        let watched = self.consumers.lock();
        let consumers = watched.iter().filter_map(Weak::upgrade);
        let waiting = consumers.filter_map(|it| it.unfed_since().map(|since| (it, since)));
        let mut queues = HashSet::new();
        let long = waiting.filter(|(_, since)| since.elapsed() >= LONG);
        long.filter(|(it, _)| queues.insert(it.queue().clone())).collect()
    }
}

impl fmt::Debug for ProgressWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressWatch").field("consumers", &self.consumers.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::super::PendingReceives;
    use super::*;
    use crate::Certainty;

    struct Consumer(QueueName, PendingReceives<u8>);

    impl Receiving for Consumer {
        fn queue(&self) -> &QueueName {
            &self.0
        }

        fn unfed_since(&self) -> Option<Instant> {
            self.1.unfed_since()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn consumer() -> Arc<Consumer> {
        reading("q")
    }

    fn reading(queue: &str) -> Arc<Consumer> {
        let pending = PendingReceives::new(10 * SECOND, Certainty::Unknown);
        Arc::new(Consumer(QueueName::new(queue).unwrap(), pending))
    }

    async fn still(watch: &ProgressWatch, ready: u64) -> bool {
        let ready = NonZeroU64::new(ready).map(u64::from);
        watch.standing_still(|_| std::future::ready(ready)).await.is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_beside_ready_messages_stands_still() {
        let (watch, consumer) = (ProgressWatch::default(), consumer());
        watch.add(&consumer);
        assert!(!still(&watch, 5).await, "nobody waits");
        let waiting = {
            let it = consumer.clone();
            tokio::spawn(async move { it.1.receive(1, 60 * SECOND).await })
        };
        sleep(SECOND / 2).await;
        assert!(!still(&watch, 5).await, "it has only just begun");
        sleep(2 * SECOND).await;
        assert!(!still(&watch, 0).await, "there is nothing to be had");
        assert!(still(&watch, 5).await);
        consumer.1.offer(vec![1]);
        assert_eq!(waiting.await.unwrap().unwrap(), [1]);
        assert!(!still(&watch, 5).await, "it was given something");
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_queues_each_look_counts_a_part_and_the_one_is_found() {
        let watch = ProgressWatch::default();
        let many: Vec<_> = (0..500).map(|nth| reading(&format!("q{nth}"))).collect();
        let mut waiting = tokio::task::JoinSet::new();
        for consumer in &many {
            watch.add(consumer);
            let it = consumer.clone();
            waiting.spawn(async move { it.1.receive(1, 600 * SECOND).await });
        }
        sleep(2 * SECOND).await;
        let slow = async |queue: QueueName| {
            sleep(SECOND / 200).await;
            Some(u64::from(queue.as_str() == "q499"))
        };
        let mut looks = 1;
        loop {
            let began = Instant::now();
            let found = watch.standing_still(slow).await;
            assert!(began.elapsed() < SECOND * 7 / 10, "{:?}", began.elapsed());
            if found.is_some() {
                break;
            }
            looks += 1;
            assert!(looks < 20, "it is never found");
        }
        assert!(looks > 1, "500 queues cannot be counted in one look");
    }

    #[tokio::test(start_paused = true)]
    async fn one_receive_after_the_other_is_one_wait() {
        let (watch, consumer) = (ProgressWatch::default(), consumer());
        watch.add(&consumer);
        let looping = {
            let it = consumer.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let receive = it.1.receive(1, SECOND / 2);
                    let _ = tokio::time::timeout(SECOND / 2, receive).await;
                }
            })
        };
        sleep(3 * SECOND).await;
        assert!(still(&watch, 1).await);
        looping.abort();
        let _ = looping.await;
        sleep(SECOND).await;
        let again = {
            let it = consumer.clone();
            tokio::spawn(async move { it.1.receive(1, 60 * SECOND).await })
        };
        sleep(SECOND / 10).await;
        assert!(!still(&watch, 1).await, "after a pause it begins anew");
        again.abort();
    }
}
