//! Publishing to topics: routes are taken here, the script that stores the copies looks whether they still stand.

use std::sync::Arc;

use polyqueue::backend::{BatchCall, Deadline};
use polyqueue::backend::{Meter, QueueMeter};
use polyqueue::{Certainty, Destination, Error, QueueName, Result, RoutingKey};

use crate::address::NAME;
use crate::connection::node::Node;
use crate::connection::refused;
use crate::publish::batch::{Outgoing, strange};
use crate::publish::outcome::{Outcomes, PublishOutcome};
use crate::scripts;
use crate::topology::catalogue::Catalogue;
use crate::topology::revival::{Revival, epoch_of};
use crate::topology::table::{Bound, Route, Table};
use crate::wire::codec::Written;
use crate::wire::names;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// About the most copies that one call stores, so that no call is long; one message may have more.
const MAX_COPIES: usize = 500;

/// Publishes to topics.
pub(crate) struct TopicPublishCall {
    pub(crate) node: Arc<Node>,
    pub(crate) namespace: String,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) revival: Arc<Revival>,
    pub(crate) meter: Arc<Meter>,
}

/// A message to a topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicMessage {
    pub(crate) key: RoutingKey,
    pub(crate) outgoing: Outgoing,
}

impl BatchCall for TopicPublishCall {
    type Item = TopicMessage;
    type Answer = PublishOutcome<TopicMessage>;
    const NAME: &'static str = "publish";
    /// One after the other: one that has to be sent again, for the routes have changed, is passed by none.
    const CALLS: usize = 1;

    fn bytes(item: &TopicMessage) -> usize {
        item.outgoing.message.payload().len()
    }

    async fn call(
        &self,
        items: Vec<TopicMessage>,
        limit: Deadline,
    ) -> Vec<Result<PublishOutcome<TopicMessage>>> {
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = items;
        for attempt in 0.. {
            let count = rest.len();
            match self.attempt(rest, attempt > 0, limit).await {
                Ok(mut attempted) => {
                    answers.append(&mut attempted.answers);
                    rest = attempted.rest;
                }
                Err(error) => {
                    answers.extend(vec![Err(error.definite()); count]);
                    return answers;
                }
            }
            if rest.is_empty() {
                break;
            }
            if limit.is_nearly_over() {
                answers.extend(rest.iter().map(|_| Err(limit.error(Certainty::Definite))));
                break;
            }
        }
        answers
    }

    fn obstacle(&self) -> Option<Error> {
        self.node.obstacle()
    }

    async fn unobstructed(&self) {
        self.node.unobstructed().await;
    }
}

/// What came of sending messages in order.
struct Attempted {
    answers: Vec<Result<PublishOutcome<TopicMessage>>>,
    /// From the first on for which the routes had changed.
    rest: Vec<TopicMessage>,
}

impl TopicPublishCall {
    /// Sends what it can by the routes that are known, or by newer ones.
    ///
    /// # Errors
    /// When the routes cannot be read; nothing was stored.
    async fn attempt(&self, items: Vec<TopicMessage>, stale: bool, limit: Deadline) -> Result<Attempted> {
        let mut table = match stale {
            true => self.catalogue.reload(limit).await?,
            false => self.catalogue.known(limit).await?,
        };
        let reaches_nobody = |table: &Table| items.iter().any(|post| table.route(&post.key).is_empty());
        // That nobody is bound must be true now, not only as far as we know.
        if !stale && reaches_nobody(&table) {
            table = self.catalogue.newer(table, limit).await?;
        }
        // A server that has lost everything reaches all that we know before it reaches any.
        let is_mended = match self.revival.is_whole(epoch_of(&table.version)) {
            true => reaches_nobody(&table) && self.revival.restore_for_nobody(limit).await? > 0,
            false => self.revival.restore(limit).await.map(|_| true)?,
        };
        if is_mended {
            table = self.catalogue.reload(limit).await?;
        }
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = items.into_iter().peekable();
        while rest.peek().is_some() {
            let mut load = Load::new(&table);
            while let Some(post) = rest.next_if(|post| load.takes(post)) {
                load.add(post);
            }
            match self.send(load, stale, limit).await {
                Ok(mut sent) => answers.append(&mut sent),
                Err(unsent) => {
                    return Ok(Attempted { answers, rest: unsent.into_iter().chain(rest).collect() });
                }
            }
        }
        Ok(Attempted { answers, rest: Vec::new() })
    }

    /// One call, by routes that are `fresh` or may be old. They have changed: all of it comes back.
    async fn send(
        &self,
        load: Load<'_>,
        fresh: bool,
        limit: Deadline,
    ) -> Result<Vec<Result<PublishOutcome<TopicMessage>>>, Vec<TopicMessage>> {
        let missing = |post: &TopicMessage| Err(Error::not_found(Destination::from(&post.key)));
        if load.sets.is_empty() {
            return Ok(load.posts.iter().map(missing).collect());
        }
        let request = load.request(&names::version(&self.namespace));
        match self.node.call(request, limit).await.map(|answer| answer.reply) {
            Ok(Reply::Number(2)) => {
                // Other hands may have changed the catalogue, and no version tells: the whole is read next.
                self.catalogue.forget();
                let queues: Vec<QueueName> =
                    load.queues.iter().map(|bound| bound.spec.name.clone()).collect();
                let is_mended = self.revival.restore_some(&queues, limit).await.is_ok_and(|count| count > 0);
                let is_all_known = fresh && load.table.is_whole && !is_mended;
                if is_all_known { Ok(vec![Err(half_there()); load.posts.len()]) } else { Err(load.posts) }
            }
            Ok(Reply::Number(_)) => Err(load.posts),
            Ok(reply) => {
                let first = load.queues.first().map(|bound| bound.keys.clone());
                let mut answers = self.judge(load, reply);
                if let Some(keys) = first {
                    refused::note(&self.node, &keys, &mut answers, limit).await;
                }
                Ok(answers)
            }
            Err(error) => Ok(vec![Err(error); load.posts.len()]),
        }
    }

    fn judge(&self, load: Load<'_>, reply: Reply) -> Vec<Result<PublishOutcome<TopicMessage>>> {
        let Some(answer) = Outcomes::read(reply) else {
            return vec![Err(strange()); load.posts.len()];
        };
        let queues: Vec<&QueueName> = load.queues.iter().map(|bound| &bound.spec.name).collect();
        let meters: Vec<Arc<QueueMeter>> = queues.iter().map(|queue| self.meter.of(queue)).collect();
        for (meter, counts) in meters.iter().zip(&answer.counts) {
            counts.note(meter);
        }
        let of = |queue: &QueueName| self.meter.of(queue);
        let answers = answer.judge(load.posts, |post| &post.outgoing.message, &queues, of);
        let mut reached = vec![0; queues.len()];
        for (answer, &set) in answers.iter().zip(&load.set_of) {
            if let Ok(PublishOutcome::Published(_)) = answer {
                load.sets[set].iter().for_each(|bound| reached[position(&load.queues, bound)] += 1);
            }
        }
        meters.iter().zip(reached).for_each(|(meter, messages)| meter.published(messages));
        answers
    }
}

/// Somebody took a queue's keys away, but not the queue.
fn half_there() -> Error {
    let what = "a queue of the catalogue is not there: declare or delete it again";
    Error::backend(NAME, Certainty::Definite, what)
}

/// Where a queue stands among those of a call, which are in the order of their numbers.
fn position(queues: &[Arc<Bound>], bound: &Bound) -> usize {
    queues.partition_point(|other| other.number < bound.number)
}

/// Messages of one call: all of them reach some queue, or none does.
struct Load<'a> {
    table: &'a Table,
    posts: Vec<TopicMessage>,
    /// The set that each goes to.
    set_of: Vec<usize>,
    sets: Vec<Route>,
    /// All queues of all sets, by their number.
    queues: Vec<Arc<Bound>>,
    copies: usize,
    /// Of all copies.
    bytes: usize,
}

impl<'a> Load<'a> {
    fn new(table: &'a Table) -> Self {
        Self { table, posts: vec![], set_of: vec![], sets: vec![], queues: vec![], copies: 0, bytes: 0 }
    }

    fn takes(&self, post: &TopicMessage) -> bool {
        let route = self.table.route(&post.key);
        let alike = route.is_empty() == self.sets.is_empty();
        self.posts.is_empty() || (alike && self.copies + route.len() <= MAX_COPIES)
    }

    fn add(&mut self, post: TopicMessage) {
        let route = self.table.route(&post.key);
        if !route.is_empty() {
            self.copies += route.len();
            self.bytes += route.len() * post.outgoing.message.payload().len();
            let set = self.sets.iter().position(|set| *set == route);
            self.set_of.push(set.unwrap_or(self.sets.len()));
            if set.is_none() {
                self.queues.extend(route.iter().cloned());
                self.queues.sort_unstable_by_key(|bound| bound.number);
                self.queues.dedup_by_key(|bound| bound.number);
                self.sets.push(route);
            }
        }
        self.posts.push(post);
    }

    fn request(&self, version: &str) -> Request {
        let queues: Vec<&QueueKeys> = self.queues.iter().map(|bound| &bound.keys).collect();
        let mut request = Request::on_keys(&scripts::TOPIC, &queues, &[version]);
        request.arg(&self.table.version).arg(format!("{} {}", self.sets.len(), self.bytes));
        for set in &self.sets {
            let number = |bound: &Arc<Bound>| (position(&self.queues, bound) + 1).to_string();
            request.arg(set.iter().map(number).collect::<Vec<_>>().join(" "));
        }
        for (post, &set) in self.posts.iter().zip(&self.set_of) {
            let Outgoing { message, published_at } = &post.outgoing;
            Written::new(message, *published_at).write(set as u64 + 1, &mut request);
        }
        request
    }
}
