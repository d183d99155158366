//! A server that has lost everything, or a part of a queue: what this handle has declared or reads is declared again as it was.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use polyqueue::backend::{Deadline, EventSender};
use polyqueue::{Certainty, Error, Event, Pattern, QueueName, QueueSpec, Result};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout_at};

use crate::address::NAME;
use crate::connection::node::Node;
use crate::connection::notifier::Sink;
use crate::connection::probe::await_notifications;
use crate::scripts;
use crate::topology::known::{Finding, Found, Known, Repair, finding};
use crate::topology::notice::{Notice, notice};
use crate::topology::{catalogue, declare};
use crate::wire::names;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// So many queues are looked at, and at most declared again, at once.
const AT_ONCE: usize = 100;
/// Whoever reaches nobody has all looked at, but not more often.
const NOBODY_LOOKS_EVERY: Duration = Duration::from_secs(1);

/// The queues that one handle has declared or reads, as the catalogue had them.
pub(crate) struct Revival {
    node: Arc<Node>,
    namespace: String,
    events: EventSender,
    known: Mutex<HashMap<QueueName, Known>>,
    /// The epoch in which all that is known was found or declared again.
    whole: Mutex<String>,
    looked: Mutex<Option<Instant>>,
    /// What the server was between two losses, for each loss that was told.
    told: Mutex<HashSet<String>>,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Hears of deletions for as long as there is somebody to tell.
pub(crate) struct Deletions(pub(crate) Weak<Revival>);

impl Sink for Deletions {
    fn take_in(&self, text: Bytes) {
        let Some(revival) = self.0.upgrade() else { return };
        match std::str::from_utf8(&text).ok().and_then(notice) {
            Some(Notice::Deleted(queue)) => revival.forget(&queue),
            Some(Notice::Unbound(queue, pattern)) => revival.unbound(&queue, &pattern),
            None => {}
        }
    }
}

/// The epoch, and what was found of each queue that was looked at.
struct Look {
    epoch: String,
    found: Vec<Found>,
}

impl Revival {
    pub(crate) fn new(node: Arc<Node>, namespace: String, events: EventSender) -> Self {
        let (known, whole, looked, told, turn) = Default::default();
        Self { node, namespace, events, known, whole, looked, told, turn }
    }

    /// Remembers a queue that is used, as the catalogue has it. Should that fail, it is not brought back.
    pub(crate) async fn remember(&self, queue: &QueueName, limit: Deadline) {
        let queues = [queue.clone()];
        let Ok(Look { epoch, found }) = self.look_at(&queues, limit).await else { return };
        let is_lost = {
            let mut known = self.known.lock();
            if known.is_empty() {
                self.whole.lock().clone_from(&epoch);
            }
            let is_other = known.get(queue).is_some_and(|known| known.epoch != epoch);
            for Found { entry, .. } in found.into_iter().filter(|_| !is_other) {
                if let Ok(spec) = catalogue::parse(queue.as_str(), &entry) {
                    known.insert(queue.clone(), Known { spec, text: entry, epoch: epoch.clone() });
                }
            }
            is_other
        };
        if is_lost || !self.is_whole(&epoch) {
            let _ = self.restore(limit).await;
        }
    }

    /// It is deleted, and stays so.
    pub(crate) fn forget(&self, queue: &QueueName) {
        self.known.lock().remove(queue);
    }

    /// It is unbound on purpose, and stays so.
    pub(crate) fn unbound(&self, queue: &QueueName, pattern: &Pattern) {
        if let Some(known) = self.known.lock().get_mut(queue) {
            known.spec.bindings.remove(pattern);
        }
    }

    /// A queue is not there, or not as it shall be. Declares it again if it is not deleted. Answers whether it is there now; also
    /// when nobody knows: whoever asks again is told.
    pub(crate) async fn revive(&self, queue: &QueueName, limit: Deadline) -> bool {
        let Ok(_turn) = self.turn(limit).await else { return true };
        let queues = [queue.clone()];
        let Ok(look) = self.look_at(&queues, limit).await else { return true };
        let is_other = !self.is_whole(&look.epoch);
        let is_there = self.mend(&queues, look, limit).await.map(|mended| mended.is_there).unwrap_or(true);
        if is_other {
            let _ = self.restore_all(limit).await;
        }
        is_there
    }

    /// Whether all that is known was found in this epoch.
    pub(crate) fn is_whole(&self, epoch: &str) -> bool {
        self.known.lock().is_empty() || (!epoch.is_empty() && *self.whole.lock() == epoch)
    }

    /// Looks at all that is known, and declares again what is lost. Answers how many were.
    ///
    /// # Errors
    /// It is not known whether all is there.
    pub(crate) async fn restore(&self, limit: Deadline) -> Result<usize> {
        let _turn = self.turn(limit).await?;
        self.restore_all(limit).await
    }

    /// The same for a topic that reaches nobody, unless that was looked at just now.
    pub(crate) async fn restore_for_nobody(&self, limit: Deadline) -> Result<usize> {
        let is_late = |looked: Instant| looked.elapsed() >= NOBODY_LOOKS_EVERY;
        if self.looked.lock().is_none_or(is_late) { self.restore(limit).await } else { Ok(0) }
    }

    /// The same for some queues, whether they are known or not.
    pub(crate) async fn restore_some(&self, queues: &[QueueName], limit: Deadline) -> Result<usize> {
        let _turn = self.turn(limit).await?;
        let mut count = 0;
        for some in queues.chunks(AT_ONCE) {
            let look = self.look_at(some, limit).await?;
            count += self.mend(some, look, limit).await?.count;
        }
        Ok(count)
    }

    async fn turn(&self, limit: Deadline) -> Result<MutexGuard<'_, ()>> {
        timeout_at(limit.until(), self.turn.lock()).await.map_err(|_| limit.error(Certainty::Definite))
    }

    async fn restore_all(&self, limit: Deadline) -> Result<usize> {
        let queues: Vec<QueueName> = self.known.lock().keys().cloned().collect();
        let (mut count, mut epochs) = (0, HashSet::new());
        for some in queues.chunks(AT_ONCE) {
            let look = self.look_at(some, limit).await?;
            let mended = self.mend(some, look, limit).await?;
            count += mended.count;
            epochs.insert(mended.epoch);
        }
        *self.looked.lock() = Some(Instant::now());
        if let (Some(epoch), 1) = (epochs.iter().next(), epochs.len()) {
            self.whole.lock().clone_from(epoch);
        }
        Ok(count)
    }

    async fn look_at(&self, queues: &[QueueName], limit: Deadline) -> Result<Look> {
        let hashes = queues.iter().map(|queue| QueueKeys::new(&self.namespace, queue).queue().to_owned());
        let mut keys = vec![names::catalogue(&self.namespace), names::version(&self.namespace)];
        keys.extend(hashes);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut request = Request::on_keys(&scripts::LOOK, &[], &keys);
        for queue in queues {
            request.arg(queue.as_str());
        }
        let strange = || Error::backend(NAME, Certainty::Definite, "an answer to a look that is none");
        read(self.node.call(request, limit).await?.reply).ok_or_else(strange)
    }

    /// Declares again what was found to be lost, and learns what was found to be sound.
    async fn mend(&self, queues: &[QueueName], look: Look, limit: Deadline) -> Result<Mended> {
        let mut mended = Mended { is_there: true, count: 0, epoch: look.epoch.clone() };
        let mut repairs = Vec::new();
        for (queue, found) in queues.iter().zip(look.found) {
            let known = self.known.lock().get(queue).cloned();
            match finding(queue, known.as_ref(), &found, &look.epoch) {
                Finding::Gone => mended.is_there = false,
                Finding::Sound(spec) => self.learn(queue, spec, found.entry, &look.epoch),
                Finding::Lost(repair) => repairs.push((queue, found, repair)),
            }
        }
        if repairs.is_empty() {
            return Ok(mended);
        }
        // Should somebody have deleted one, that is said by now; who deletes one later finds none, or is found out.
        if !await_notifications(&self.node, limit).await {
            let unheard = "whether a queue was deleted or lost is not known: what is told does not come";
            return Err(Error::unavailable(NAME, Certainty::Definite, unheard));
        }
        let repaired = repairs.into_iter().map(|(queue, found, it)| self.repair(queue, found, it, limit));
        for repaired in join_all(repaired).await {
            match repaired? {
                Some(epoch) => (mended.count, mended.epoch) = (mended.count + 1, epoch),
                None => mended.is_there = false,
            }
        }
        Ok(mended)
    }

    /// Answers the epoch in which it is there again; nothing when it was deleted meanwhile, or somebody else has changed it.
    async fn repair(
        &self,
        queue: &QueueName,
        found: Found,
        repair: Repair,
        limit: Deadline,
    ) -> Result<Option<String>> {
        let Repair { mut spec, text, is_remembered, only_there } = repair;
        let known = self.known.lock().get(queue).cloned();
        if is_remembered {
            let Some(known) = &known else { return Ok(None) };
            spec.bindings.retain(|pattern| {
                known.spec.bindings.contains(pattern) || bindings(queue, &found.entry).contains(pattern)
            });
        }
        if let Some(known) = known.filter(|_| found.entry.is_empty() && found.made_by.is_empty()) {
            self.tell_of_the_loss(&known.epoch, queue);
        }
        let entry = declare::entry(&text, &spec);
        let mut request = declare::written(
            &self.namespace,
            &found.entry,
            entry.clone(),
            &spec,
            &bindings(queue, &found.entry),
        );
        request.number(only_there.into());
        let reply = self.node.call(request, limit).await?.reply;
        let Some(version) = reply.into_list().and_then(|mut list| list.pop()?.into_text()) else {
            return Ok(None);
        };
        let epoch = epoch_of(&version).to_owned();
        self.learn(queue, spec, entry.to_string(), &epoch);
        self.events.send(Event::Redeclared { queue: queue.clone() });
        Ok(Some(epoch))
    }

    /// Of a queue that is known.
    fn learn(&self, queue: &QueueName, spec: QueueSpec, text: String, epoch: &str) {
        if let Some(known) = self.known.lock().get_mut(queue) {
            *known = Known { spec, text, epoch: epoch.to_owned() };
        }
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
}

/// What came of looking at some queues.
struct Mended {
    /// All of them are there now.
    is_there: bool,
    /// How many were declared again.
    count: usize,
    epoch: String,
}

/// What a version begins with: the same until the server has lost everything.
pub(crate) fn epoch_of(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

/// Those that the catalogue says; none where it says nothing that can be read.
fn bindings(queue: &QueueName, entry: &str) -> BTreeSet<Pattern> {
    catalogue::parse(queue.as_str(), entry).map(|spec| spec.bindings).unwrap_or_default()
}

fn read(reply: Reply) -> Option<Look> {
    let texts = reply.into_list()?.into_iter().map(lossy).collect::<Option<Vec<_>>>()?;
    let (version, rest) = texts.split_first()?;
    let found = rest.chunks_exact(3).map(|three| Found {
        entry: three[0].clone(),
        made_by: three[1].clone(),
        rules: three[2].clone(),
    });
    Some(Look { epoch: epoch_of(version).to_owned(), found: found.collect() })
}

/// What is no text is none of ours.
fn lossy(reply: Reply) -> Option<String> {
    Some(String::from_utf8_lossy(&reply.into_bytes()?).into_owned())
}
