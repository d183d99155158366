//! Publishing: one call of a script for all messages that are waiting.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use polyqueue::{Certainty, Error, Message, Published, QueueMeter, QueueName, Result};
use uuid::Uuid;

use crate::codec::Written;
use crate::lane::Freight;
use crate::link::{Limit, Link, Reply, Request};
use crate::{NAME, scripts};

/// What the shape of a delayed message has more than that of another; see `publish.lua`.
const DELAYED: u64 = 100_000;

/// Publishes to one queue.
pub(crate) struct Publisher {
    pub(crate) link: Arc<Link>,
    pub(crate) queue: QueueName,
    pub(crate) prefix: String,
    pub(crate) meter: Arc<QueueMeter>,
    pub(crate) deadline: Duration,
}

/// A message and when it was published, by the sender's clock.
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    pub(crate) published_at: DateTime<Utc>,
}

impl Freight for Publisher {
    type Item = Outgoing;
    type Answer = Published;
    const NAME: &'static str = "publish";

    fn bytes(item: &Outgoing) -> usize {
        item.message.payload().len()
    }

    async fn carry(&self, items: Vec<Outgoing>) -> Vec<Result<Published>> {
        let limit = Limit::new(Self::NAME, self.deadline);
        let answer = self.link.call(self.request(&items), limit).await;
        let answers = match answer.map(|answer| answer.reply) {
            Ok(Reply::Number(0)) => vec![Err(Error::not_found(self.queue.clone())); items.len()],
            Ok(Reply::List(refused)) => stored(items, refused),
            Ok(_) => {
                let strange = "an answer to a publish that is none";
                vec![Err(Error::backend(NAME, Certainty::Unknown, strange)); items.len()]
            }
            Err(error) => vec![Err(error); items.len()],
        };
        self.meter.published(answers.iter().filter(|answer| answer.is_ok()).count() as u64);
        answers
    }
}

impl Publisher {
    fn request(&self, items: &[Outgoing]) -> Request {
        let mut request = Request::script(&scripts::PUBLISH, &[&self.prefix]);
        for Outgoing { message, published_at } in items {
            let written = Written::new(message, *published_at);
            let shape = 1000 * u64::from(message.priority().get()) + written.others();
            match millis(message.delay()) {
                0 => request.number(shape),
                delay => request.number(DELAYED + shape).number(delay).arg(uid()),
            };
            written.write(&mut request);
        }
        request
    }
}

/// All are stored but those that the server names, by position and with its reason.
fn stored(items: Vec<Outgoing>, refused: Vec<Reply>) -> Vec<Result<Published>> {
    let id = |item: Outgoing| Ok(Published::stored(item.message.id().clone()));
    let mut answers: Vec<Result<Published>> = items.into_iter().map(id).collect();
    for pair in refused.chunks(2) {
        let position = pair[0].number().and_then(|position| usize::try_from(position - 1).ok());
        let reason = pair.get(1).cloned().and_then(Reply::into_text).unwrap_or_default();
        if let Some(answer) = position.and_then(|position| answers.get_mut(position)) {
            *answer = Err(Error::backend(NAME, Certainty::Definite, reason));
        }
    }
    answers
}

/// Whole milliseconds, rounded up, so that nothing is early.
pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_micros().div_ceil(1000) as u64
}

/// Names a delayed message: sorts by time, so that of two that are due at once the older is first.
pub(crate) fn uid() -> String {
    Uuid::now_v7().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_rounded_up() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1_000)), 1);
        assert_eq!(millis(Duration::from_micros(1_001)), 2);
        assert_eq!(millis(Duration::from_secs(365 * 24 * 3600)), 31_536_000_000);
    }

    #[test]
    fn uids_sort_as_they_are_made() {
        let uids: Vec<String> = (0..10_000).map(|_| uid()).collect();
        assert!(uids.is_sorted());
    }
}
