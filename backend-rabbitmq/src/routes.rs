//! Publishes that need more than one order: a copy for each queue, each with its own delay, key and bound.

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use polyqueue::{Certainty, Destination, Error, Message, Published, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::core::Core;
use crate::publisher::{Order, Stored, lost};
use crate::records::Entry;
use crate::topics::found;
use crate::wire;

/// What the broker is still to answer.
type Answer = oneshot::Receiver<Result<Stored>>;

impl Core {
    /// A call that ends by then, and has done nothing when it ends so.
    pub(crate) async fn in_time<T>(
        &self,
        what: &'static str,
        by: Instant,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let late = |_| Err(Error::timeout(what, self.deadline, Certainty::Definite));
        timeout_at(by, call).await.unwrap_or_else(late)
    }

    /// The properties of a message that is published now.
    pub(crate) fn properties(&self, message: &Message, now: DateTime<Utc>) -> BasicProperties {
        let published = message.published_at().unwrap_or(now).timestamp_millis();
        wire::with_terms(wire::encode(message, published), message, now)
    }

    /// Sends orders and waits for all answers.
    pub(crate) async fn send(&self, orders: Vec<Order>, by: Instant) -> Result<Vec<Result<Stored>>> {
        let publisher = self.in_time("publish", by, self.publisher()).await?;
        self.check_open()?;
        let sent: Vec<Answer> = orders.into_iter().map(|order| publisher.publish(order)).collect();
        let mut answers = Vec::with_capacity(sent.len());
        for answer in sent {
            answers.push(self.answered(answer, by).await);
        }
        Ok(answers)
    }

    async fn answered(&self, answer: Answer, by: Instant) -> Result<Stored> {
        match timeout_at(by, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(Error::timeout("publish", self.deadline, Certainty::Unknown)),
        }
    }

    /// Publishes one copy of each message to each of these queues.
    ///
    /// # Errors
    /// `NotFound` when there are none.
    pub(crate) async fn publish_copies(
        &self,
        to: &Destination,
        entries: &[Entry],
        batch: &[Message],
        by: Instant,
    ) -> Result<Vec<Result<Published>>> {
        if entries.is_empty() {
            return Err(Error::not_found(to.clone()));
        }
        let delays: Vec<_> = batch.iter().map(Message::delay).filter(|delay| !delay.is_zero()).collect();
        if !delays.is_empty() {
            self.in_time("publish", by, self.ensure_cascade(&delays)).await?;
        }
        let publisher = self.in_time("publish", by, self.publisher()).await?;
        let now = self.now();
        let mut sent = Vec::with_capacity(batch.len());
        for message in batch {
            let mut answers = Vec::with_capacity(entries.len());
            for entry in entries {
                let order = self.order(
                    entry.name(),
                    &entry.address,
                    message.delay(),
                    self.properties(message, now),
                    message.payload().clone(),
                );
                let order = self.in_time("publish", by, order).await?;
                answers.push(publisher.publish(order));
            }
            sent.push(answers);
        }
        let mut results = Vec::with_capacity(batch.len());
        for (answers, message) in sent.into_iter().zip(batch) {
            let mut outcomes = Vec::with_capacity(entries.len());
            for (answer, entry) in answers.into_iter().zip(entries) {
                let outcome = self.answered(answer, by).await;
                if matches!(outcome, Ok(Stored::Yes)) {
                    self.meter.of(entry.name()).published(1);
                }
                outcomes.push(outcome);
            }
            results.push(summed(to, message, outcomes));
        }
        found(results)
    }
}

/// What became of a message by what became of its copies.
fn summed(to: &Destination, message: &Message, outcomes: Vec<Result<Stored>>) -> Result<Published> {
    let stored = outcomes.iter().any(|outcome| matches!(outcome, Ok(Stored::Yes)));
    match outcomes.into_iter().find_map(Result::err) {
        Some(error) if stored => Err(unknown(error)),
        Some(error) => Err(error),
        None if stored => Ok(Published::stored(message.id().clone())),
        None => Err(Error::not_found(to.clone())),
    }
}

/// The same error, where some copies are stored and others are not.
fn unknown(error: Error) -> Error {
    match error.certainty() {
        Certainty::Unknown => error,
        Certainty::Definite => Error::unavailable(crate::PROVIDER_NAME, Certainty::Unknown, error),
    }
}
