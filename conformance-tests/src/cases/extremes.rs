//! Every time and every count that can be given, from none to the largest: taken, or refused as `Invalid`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use polyqueue::{
    Consumer, DeadFilter, Dedup, DedupUntil, Delivery, Destination, Error, Message, Overflow, Page, Pattern,
    Priority, Queue, QueueName, QueueSpec, Reschedule, Settled, Subscription, Verdict,
};
use tokio::time::timeout;

use super::hand::{PATIENCE, steady};
use crate::verbs::{publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Outcome, case, ensure_eq};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn times() -> Vec<Duration> {
    let limits = [Duration::from_millis(1), DAY, 365 * DAY];
    let around = limits
        .iter()
        .flat_map(|limit| [*limit - Duration::from_nanos(1), *limit, *limit + Duration::from_nanos(1)]);
    let far = [
        Duration::from_millis(u64::MAX),
        Duration::from_secs(i64::MAX as u64 / 1000),
        Duration::from_secs(i64::MAX as u64),
        Duration::MAX / 2,
        Duration::from_secs(u64::MAX),
        Duration::MAX,
    ];
    [Duration::ZERO, Duration::from_nanos(1)].into_iter().chain(around).chain(far).collect()
}

fn counts() -> [usize; 6] {
    [0, 1, u32::MAX as usize, usize::MAX / 2, usize::MAX - 1, usize::MAX]
}

/// What was taken; nothing where it was refused as invalid.
fn taken<T>(given: impl std::fmt::Debug, answer: polyqueue::Result<T>) -> Result<Option<T>, Fail> {
    match answer {
        Ok(taken) => Ok(Some(taken)),
        Err(Error::Invalid { .. }) => Ok(None),
        Err(other) => Err(format!("{given:?} is neither taken nor invalid: {other:?}").into()),
    }
}

struct Walk {
    env: Env,
    queue: Arc<dyn Queue>,
}

async fn every_time_and_count_is_taken_or_invalid(env: Env) -> Outcome {
    let queue = env.open_unrecorded(|options| options).await?;
    let walk = Walk { env, queue };
    walk.connections().await?;
    walk.specifications().await?;
    walk.messages().await?;
    walk.subscriptions().await?;
    walk.receives().await?;
    walk.verdicts().await?;
    walk.administration().await?;
    walk.queue.close().await?;
    all_is_well(&walk.env).await
}

/// What comes after all that is as ever.
async fn all_is_well(env: &Env) -> Outcome {
    let (queue, name) = env.declared("after").await?;
    let id = publish_one(&queue, &name, Message::new("after")).await?;
    let consumer = queue.subscribe(&steady(env, &name)).await?;
    let delivery = receive_one(&*consumer, PATIENCE).await?;
    ensure_eq!(delivery.message.id(), &id, "what came");
    ensure_eq!(settle_one(&*consumer, &delivery.receipt, Verdict::Ack).await?, Settled::Applied, "its ack");
    Ok(())
}

impl Walk {
    async fn connections(&self) -> Outcome {
        let name = self.fresh("connections").await?;
        for deadline in times() {
            match self.env.open_unrecorded(|options| options.deadline(deadline)).await {
                // There may be too little time to connect.
                Err(Error::Timeout { .. } | Error::Unavailable { .. }) if deadline < PATIENCE => {}
                answer => {
                    let Some(queue) = taken(deadline, answer)? else { continue };
                    if deadline >= PATIENCE {
                        queue.stats(&name).await?;
                    }
                    queue.close().await?;
                }
            }
        }
        Ok(())
    }

    async fn specifications(&self) -> Outcome {
        let name = self.env.queue_name("specified");
        let spec = || QueueSpec::new(name.clone());
        let mut specs = Vec::new();
        for count in counts().map(|count| count as u64) {
            specs.extend([spec().bound(count, Overflow::Reject), spec().bound(count, Overflow::Block)]);
            specs.push(spec().dead_max_len(count));
        }
        for time in times() {
            specs.extend([spec().dead_max_age(time), spec().dedup(Dedup::window(time))]);
            let mut by_hand = spec().dedup(Dedup { window: time, until: DedupUntil::Ack });
            specs.push(by_hand.clone());
            by_hand.dedup = None;
            by_hand.dead.max_age = Some(time);
            specs.push(by_hand);
        }
        for spec in specs {
            if taken(&spec, self.queue.declare(&spec).await)?.is_some() {
                self.queue.declare(&spec).await?;
                self.queue.declare(&spec.clone().bind(Pattern::new("extreme")?)).await?;
                let mut message = Message::new("in bounds");
                if spec.dedup.is_some() {
                    message = message.with_dedup_key("key");
                }
                self.publish_to(&name, message).await?;
                let consumer = self.queue.subscribe(&Subscription::new(name.clone())).await?;
                self.settle(&*consumer, Verdict::reject("to the dead letters")).await?;
                self.queue.dead_letters(&name, &DeadFilter::all(), Page::first(1)).await?;
                consumer.close().await?;
                self.queue.delete(&name).await?;
            }
        }
        Ok(())
    }

    async fn messages(&self) -> Outcome {
        let name = self.fresh("messages").await?;
        let mut messages = Vec::new();
        for time in times() {
            messages.extend([Message::new("").with_delay(time), Message::new("").with_ttl(time)]);
            messages.push(Message::new("").with_delay(time).with_ttl(time.saturating_add(time)));
        }
        for at in [DateTime::<Utc>::MIN_UTC, DateTime::UNIX_EPOCH, Utc::now(), DateTime::<Utc>::MAX_UTC] {
            messages.push(Message::new("").not_before(at));
            messages.push(Message::new("").not_before(at).with_delay(DAY).with_ttl(2 * DAY));
            messages.push(Message::new("").with_published_at(at));
            messages.push(Message::new("").with_published_at(at).with_ttl(DAY));
        }
        for max in [NonZeroU32::MIN, NonZeroU32::MAX] {
            messages.push(Message::new("").with_max_attempts(max));
        }
        for level in [i64::MIN, -1, 0, 1, 10, 11, i64::MAX] {
            let priority = taken(level, Priority::new(level))?;
            messages.extend(priority.map(|priority| Message::new("").with_priority(priority)));
        }
        for message in messages {
            self.publish_to(&name, message).await?;
        }
        let consumer = self.queue.subscribe(&Subscription::new(name.clone())).await?;
        loop {
            let came = consumer.receive(usize::MAX, Duration::ZERO).await?;
            if came.is_empty() {
                break;
            }
            for delivery in came {
                taken(&delivery, consumer.settle(&[(delivery.receipt.clone(), Verdict::Ack)]).await)?;
            }
        }
        consumer.close().await?;
        Ok(())
    }

    async fn subscriptions(&self) -> Outcome {
        let name = self.fresh("subscriptions").await?;
        let subscription = || Subscription::new(name.clone());
        for prefetch in counts() {
            let consumer = taken(prefetch, self.queue.subscribe(&subscription().prefetch(prefetch)).await)?;
            if let Some(consumer) = consumer {
                self.publish_to(&name, Message::new("prefetched")).await?;
                self.settle(&*consumer, Verdict::Ack).await?;
                consumer.close().await?;
            }
        }
        for max in [NonZeroU32::MIN, NonZeroU32::MAX] {
            self.publish_to(&name, Message::new("tried")).await?;
            let consumer = self.queue.subscribe(&subscription().max_attempts(max)).await?;
            self.settle(&*consumer, Verdict::retry(Duration::ZERO, "again")).await?;
            if max > NonZeroU32::MIN {
                self.settle(&*consumer, Verdict::Ack).await?;
            }
            consumer.close().await?;
        }
        for lease in times() {
            let consumer = taken(lease, self.queue.subscribe(&subscription().lease(lease)).await)?;
            let Some(consumer) = consumer else { continue };
            self.publish_to(&name, Message::new("leased")).await?;
            let delivery = receive(&*consumer).await?;
            taken(lease, consumer.extend(std::slice::from_ref(&delivery.receipt)).await)?;
            taken(lease, consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await)?;
            consumer.close().await?;
        }
        Ok(())
    }

    async fn receives(&self) -> Outcome {
        let name = self.fresh("receives").await?;
        let consumer = self.queue.subscribe(&Subscription::new(name.clone())).await?;
        for max in counts() {
            self.publish_to(&name, Message::new("counted")).await?;
            let came = taken(max, consumer.receive(max, PATIENCE).await)?.unwrap_or_default();
            ensure_eq!(came.len(), max.min(1), "what receive({max}) brought");
            match came.into_iter().next() {
                Some(delivery) => drop(consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await?),
                None => self.settle(&*consumer, Verdict::Ack).await?,
            }
        }
        for wait in times() {
            if let Ok(answer) = timeout(self.env.t(0.1), consumer.receive(1, wait)).await {
                taken(wait, answer)?;
            }
        }
        Ok(consumer.close().await?)
    }

    async fn verdicts(&self) -> Outcome {
        let name = self.fresh("verdicts").await?;
        let consumer = self.queue.subscribe(&Subscription::new(name.clone())).await?;
        for after in times() {
            for verdict in [Verdict::retry(after, "later"), Verdict::Release { after }] {
                self.publish_to(&name, Message::new("judged")).await?;
                let receipt = receive(&*consumer).await?.receipt;
                let mut answers = consumer.settle(&[(receipt.clone(), verdict)]).await?;
                if taken(after, answers.remove(0))?.is_none() {
                    consumer.settle(&[(receipt, Verdict::Ack)]).await?.remove(0)?;
                }
            }
        }
        Ok(consumer.close().await?)
    }

    async fn administration(&self) -> Outcome {
        let name = self.fresh("administration").await?;
        for time in times() {
            let message = Message::new("moved").with_delay(DAY);
            let id = message.id().clone();
            self.publish_to(&name, message).await?;
            match self.queue.reschedule(&name, &id, Reschedule::After(time)).await {
                Err(Error::Unsupported { .. }) => break,
                answer => drop(taken(time, answer)?),
            }
        }
        for limit in counts() {
            let page = Page::first(limit);
            taken(limit, self.queue.dead_letters(&name, &DeadFilter::all(), page).await)?;
        }
        Ok(())
    }

    async fn fresh(&self, name: &str) -> Result<QueueName, Fail> {
        let name = self.env.queue_name(name);
        self.queue.declare(&name.clone().into()).await?;
        Ok(name)
    }

    async fn publish_to(&self, name: &QueueName, message: Message) -> Outcome {
        let given = format!("{message:?}");
        let published = self.queue.publish(&Destination::from(name), vec![message]).await;
        taken(given, published.and_then(|mut answers| answers.remove(0)))?;
        Ok(())
    }

    async fn settle(&self, consumer: &dyn Consumer, verdict: Verdict) -> Outcome {
        let receipt = receive(consumer).await?.receipt;
        consumer.settle(&[(receipt, verdict)]).await?.remove(0)?;
        Ok(())
    }
}

async fn receive(consumer: &dyn Consumer) -> Result<Delivery, Fail> {
    let mut came = consumer.receive(1, PATIENCE).await?;
    came.pop().ok_or_else(|| "nothing came".into())
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-VAL-11",
    "every time and count from none to the largest is taken or refused as invalid",
    ["S-VAL-4"],
    Safety,
    [Minutes],
    every_time_and_count_is_taken_or_invalid
)];
