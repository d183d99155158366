//! A server that has lost everything: queues that this handle uses are declared again as they were.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use polyqueue::backend::{Deadline, EventSender};
use polyqueue::{Event, QueueName, QueueSpec, Result};
use tokio::time::timeout_at;

use crate::connection::node::Node;
use crate::connection::notifier::Sink;
use crate::connection::probe::await_notifications;
use crate::topology::{catalogue, declare};
use crate::wire::names;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// The queues that one handle has declared or reads, as the catalogue had them.
pub(crate) struct Revival {
    node: Arc<Node>,
    namespace: String,
    events: EventSender,
    known: Mutex<HashMap<QueueName, Known>>,
    /// What the server was between two losses, for each loss that was told.
    told: Mutex<HashSet<String>>,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
}

/// A queue as it was, and since when the server had lost nothing then.
#[derive(Clone)]
struct Known {
    spec: QueueSpec,
    epoch: String,
}

/// Hears of deletions for as long as there is somebody to tell.
pub(crate) struct Deletions(pub(crate) Weak<Revival>);

impl Sink for Deletions {
    fn take_in(&self, text: Bytes) {
        let name = std::str::from_utf8(&text).ok().and_then(|name| QueueName::new(name).ok());
        if let (Some(revival), Some(name)) = (self.0.upgrade(), name) {
            revival.forget(&name);
        }
    }
}

impl Revival {
    pub(crate) fn new(node: Arc<Node>, namespace: String, events: EventSender) -> Self {
        let (known, told, turn) = Default::default();
        Self { node, namespace, events, known, told, turn }
    }

    /// Remembers a queue that is used, as the catalogue has it. Should that fail, it is not brought back.
    pub(crate) async fn remember(&self, queue: &QueueName, limit: Deadline) {
        let mut request = Request::plain("HGET");
        request.arg(names::catalogue(&self.namespace)).arg(queue.as_str());
        let Ok((text, epoch)) = tokio::try_join!(self.text(request, limit), self.epoch(limit)) else {
            return;
        };
        let spec = text.and_then(|text| catalogue::parse(queue.as_str(), &text).ok());
        if let (Some(spec), Some(epoch)) = (spec, epoch) {
            self.known.lock().insert(queue.clone(), Known { spec, epoch });
        }
    }

    /// It is deleted, and stays so.
    pub(crate) fn forget(&self, queue: &QueueName) {
        self.known.lock().remove(queue);
    }

    /// A queue is not there. Declares it again if the server has lost everything since it was used. Answers whether it is there now.
    pub(crate) async fn revive(&self, queue: &QueueName, limit: Deadline) -> bool {
        if !self.known.lock().contains_key(queue) {
            return false;
        }
        let Ok(_turn) = timeout_at(limit.until(), self.turn.lock()).await else { return true };
        // Should somebody have deleted it, that is said by now.
        if !await_notifications(&self.node, limit).await {
            // Nobody knows: whoever asks again is told.
            return true;
        }
        let known = self.known.lock().get(queue).cloned();
        let Some(known) = known else { return false };
        self.try_to_revive(known, limit).await.unwrap_or_default()
    }

    /// A topic reaches nobody. The same for all queues that are bound. Answers whether one is there now that was not.
    pub(crate) async fn revive_bound(&self, limit: Deadline) -> bool {
        let is_bound = |known: &&Known| !known.spec.bindings.is_empty();
        let bound: Vec<Known> = self.known.lock().values().filter(is_bound).cloned().collect();
        let mut revived = false;
        for known in bound {
            revived |= self.revive(&known.spec.name, limit).await;
        }
        revived
    }

    async fn try_to_revive(&self, known: Known, limit: Deadline) -> Result<bool> {
        if self.epoch(limit).await?.is_some_and(|epoch| epoch == known.epoch) {
            // Deleted before it was said to whom it matters, or brought back by somebody in the same instant.
            let mut request = Request::plain("EXISTS");
            request.arg(QueueKeys::new(&self.namespace, &known.spec.name).queue());
            return Ok(self.node.call(request, limit).await?.reply == Reply::Number(1));
        }
        let queue = known.spec.name.clone();
        self.tell_of_the_loss(&known.epoch, &queue);
        // What somebody else has declared meanwhile stands.
        let request = declare::written(&self.namespace, "", &known.spec, &BTreeSet::new());
        self.node.call(request, limit).await?;
        let epoch = self.epoch(limit).await?.unwrap_or_default();
        self.known.lock().insert(queue.clone(), Known { epoch, ..known });
        self.events.send(Event::Redeclared { queue });
        Ok(true)
    }

    /// Once for all queues that were lost together.
    fn tell_of_the_loss(&self, epoch: &str, queue: &QueueName) {
        let still: HashSet<String> = self.known.lock().values().map(|known| known.epoch.clone()).collect();
        let mut told = self.told.lock();
        told.retain(|other| still.contains(other));
        if told.insert(epoch.to_owned()) {
            let detail = format!("{}: queue {queue} is gone, and so is what marked the namespace", self.node);
            self.events.send(Event::Wiped { detail });
        }
    }

    async fn epoch(&self, limit: Deadline) -> Result<Option<String>> {
        let mut request = Request::plain("GET");
        request.arg(names::version(&self.namespace));
        let version = self.text(request, limit).await?;
        Ok(version.and_then(|version| version.split('.').next().map(str::to_owned)))
    }

    async fn text(&self, request: Request, limit: Deadline) -> Result<Option<String>> {
        let reply: Reply = self.node.call(request, limit).await?.reply;
        Ok(reply.into_text())
    }
}
