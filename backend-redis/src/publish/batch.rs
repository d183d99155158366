//! Publishing to one queue: one call of a script for all messages that are waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use polyqueue::backend::QueueMeter;
use polyqueue::backend::{BatchCall, Deadline};
use polyqueue::{Certainty, Error, Message, QueueName, Result};

use crate::address::NAME;
use crate::connection::node::Node;
use crate::connection::refused;
use crate::publish::outcome::{Outcomes, PublishOutcome};
use crate::scripts;
use crate::topology::revival::Revival;
use crate::wire::codec;
use crate::wire::codec::Written;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::{Request, Script};

/// Publishes to one queue.
pub(crate) struct PublishCall {
    pub(crate) node: Arc<Node>,
    pub(crate) queue: QueueName,
    pub(crate) keys: QueueKeys,
    pub(crate) meter: Arc<QueueMeter>,
    pub(crate) known_rules: Arc<KnownRules>,
    pub(crate) revival: Arc<Revival>,
}

/// A message and when it was published, by the sender's clock.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    pub(crate) published_at: DateTime<Utc>,
}

/// How a queue takes messages, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct KnownRules {
    /// Nobody ever waits.
    flows: AtomicBool,
    /// It has rules, which every message is subject to.
    rules: AtomicBool,
}

impl KnownRules {
    /// Whether it is known that nobody ever waits.
    pub(crate) fn flows(&self) -> bool {
        self.flows.load(Ordering::Relaxed)
    }

    fn learn(&self, patient: bool) {
        self.flows.store(!patient, Ordering::Relaxed);
    }
}

impl BatchCall for PublishCall {
    type Item = Outgoing;
    type Answer = PublishOutcome<Outgoing>;
    const NAME: &'static str = "publish";

    fn bytes(item: &Outgoing) -> usize {
        item.message.payload().len()
    }

    async fn call(&self, items: Vec<Outgoing>, limit: Deadline) -> Vec<Result<PublishOutcome<Outgoing>>> {
        let count = items.len();
        let mut answer = self.call(&items, limit).await;
        if matches!(answer, Ok(Reply::Number(0))) && self.revival.revive(&self.queue, limit).await {
            answer = self.call(&items, limit).await;
        }
        let answers = match answer {
            Ok(Reply::Number(0)) => vec![Err(Error::not_found(self.queue.clone())); count],
            Ok(reply) => {
                let mut answers = self.judge(items, reply);
                refused::note(&self.node, &self.keys, &mut answers, limit).await;
                answers
            }
            Err(error) => vec![Err(error); count],
        };
        let published = |answer: &&Result<_>| matches!(answer, Ok(PublishOutcome::Published(_)));
        self.meter.published(answers.iter().filter(published).count() as u64);
        answers
    }

    fn obstacle(&self) -> Option<Error> {
        self.node.obstacle()
    }

    async fn unobstructed(&self) {
        self.node.unobstructed().await;
    }
}

impl PublishCall {
    /// By the script that thinks of nothing, if that may do.
    async fn call(&self, items: &[Outgoing], limit: Deadline) -> Result<Reply> {
        let plain = |item: &Outgoing| codec::is_plain(&item.message);
        if !self.known_rules.rules.load(Ordering::Relaxed) && items.iter().all(plain) {
            let answer = self.node.call(self.request(&scripts::PUBLISH_PLAIN, items), limit).await?;
            if answer.reply != Reply::Number(1) {
                return Ok(answer.reply);
            }
            self.known_rules.rules.store(true, Ordering::Relaxed);
        }
        Ok(self.node.call(self.request(&scripts::PUBLISH, items), limit).await?.reply)
    }

    fn request(&self, script: &'static Script, items: &[Outgoing]) -> Request {
        let mut request = Request::script(script, &self.keys);
        for Outgoing { message, published_at } in items {
            Written::new(message, *published_at).write(0, &mut request);
        }
        request
    }

    fn judge(&self, items: Vec<Outgoing>, reply: Reply) -> Vec<Result<PublishOutcome<Outgoing>>> {
        let Some(answer) = Outcomes::read(reply) else {
            return vec![Err(strange()); items.len()];
        };
        for counts in &answer.counts {
            self.known_rules.learn(counts.patient);
            counts.note(&self.meter);
        }
        answer.judge(items, |item| &item.message, &[&self.queue], |_| self.meter.clone())
    }
}

/// A call that stored nobody knows what.
pub(crate) fn strange() -> Error {
    Error::backend(NAME, Certainty::Unknown, "an answer to a publish that is none")
}
