//! What one handle and its consumers share.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use polyqueue::backend::{Deadline, EventSender, Lifecycle, Meter, ProgressWatch, background};
use polyqueue::{Error, Info, QueueName, Result};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use uuid::Uuid;

use crate::connection::listening::check_listening;
use crate::connection::node::Node;
use crate::connection::notifier::Notifier;
use crate::wire::names;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::{Request, Script};

/// When nothing was heard so long, the connection that listens is looked at.
const UNHEARD: Duration = Duration::from_secs(1);

/// What one handle and its consumers share.
pub(crate) struct Handle {
    pub(crate) node: Arc<Node>,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) info: Info,
    pub(crate) namespace: String,
    /// Names this handle on the server.
    pub(crate) tag: String,
    pub(crate) deadline: Duration,
    pub(crate) clock_offset: TimeDelta,
    pub(crate) meter: Arc<Meter>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) events: EventSender,
    pub(crate) watch: ProgressWatch,
    /// Set once the connection listens for who waits on this handle.
    pub(crate) listening: OnceCell<()>,
    /// What the connection listens to for this handle alone.
    pub(crate) channels: Mutex<BTreeSet<String>>,
    /// The connections are another's.
    pub(crate) is_child: bool,
}

/// Names a handle on the server.
pub(crate) fn fresh_tag() -> String {
    Uuid::new_v4().simple().to_string()[..16].to_owned()
}

impl Handle {
    /// A handle in another namespace that ends with this one, over the same connections.
    ///
    /// # Errors
    /// [`Error::Closed`] once this one was closed.
    pub(crate) fn child(&self, namespace: &str) -> Result<Self> {
        Ok(Self {
            node: self.node.clone(),
            notifier: self.notifier.clone(),
            info: self.info.clone(),
            namespace: namespace.to_owned(),
            tag: fresh_tag(),
            deadline: self.deadline,
            clock_offset: self.clock_offset,
            meter: Arc::default(),
            lifecycle: self.lifecycle.child()?,
            events: self.events.child(namespace),
            watch: ProgressWatch::default(),
            listening: OnceCell::new(),
            channels: Mutex::default(),
            is_child: true,
        })
    }

    /// Sees to it that whoever waits on this handle can be woken.
    pub(crate) async fn listen(&self, limit: Deadline) -> Result<()> {
        let channel = names::channel(&self.namespace, &self.tag);
        self.listening.get_or_try_init(|| self.subscribe(&channel, limit)).await.copied()
    }

    /// Listens to a channel until the handle ends.
    pub(crate) async fn subscribe(&self, channel: &str, limit: Deadline) -> Result<()> {
        self.channels.lock().insert(channel.to_owned());
        let mut subscribing = pin!(self.node.subscribe(channel, limit));
        if let Ok(subscribed) = timeout(UNHEARD, &mut subscribing).await {
            return subscribed;
        }
        check_listening(&self.node);
        subscribing.await
    }

    /// Listens to it no longer.
    pub(crate) async fn unsubscribe(&self, channel: &str, limit: Deadline) {
        self.channels.lock().remove(channel);
        self.node.unsubscribe(BTreeSet::from([channel.to_owned()]), limit).await;
    }

    /// Ends what it has of the server: the connections, or of a child the channels.
    pub(crate) async fn end(&self) {
        if !self.is_child {
            return self.node.close();
        }
        let channels = std::mem::take(&mut *self.channels.lock());
        channels.iter().for_each(|channel| self.notifier.remove_inbox(channel));
        self.node.unsubscribe(channels, Deadline::new("closing", self.deadline)).await;
    }

    /// # Errors
    /// [`Error::Closed`] once the handle was closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.lifecycle.check_open()
    }

    /// Where one with this number is woken: by its number, which may be followed by how messages can be leased to it.
    pub(crate) fn waiter(&self, number: u64) -> String {
        format!("{}|{number}", names::channel(&self.namespace, &self.tag))
    }

    /// This client's wall clock.
    pub(crate) fn wall_clock(&self) -> DateTime<Utc> {
        Utc::now() + self.clock_offset
    }

    /// Calls a script on a queue: `what` names it in errors, `fill` adds its arguments.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the script answers 0, which all of ours do for an unknown queue.
    pub(crate) async fn run(
        &self,
        what: &'static str,
        script: &'static Script,
        queue: &QueueName,
        fill: impl FnOnce(&mut Request),
    ) -> Result<Reply> {
        let mut request = Request::script(script, &QueueKeys::new(&self.namespace, queue));
        fill(&mut request);
        match self.call(what, request).await? {
            Reply::Number(0) => Err(Error::not_found(queue.clone())),
            reply => Ok(reply),
        }
    }

    pub(crate) async fn call(&self, what: &'static str, request: Request) -> Result<Reply> {
        self.check_open()?;
        Ok(self.node.call(request, Deadline::new(what, self.deadline)).await?.reply)
    }
}

impl Drop for Handle {
    /// A child that nobody closed leaves the connection as it found it.
    fn drop(&mut self) {
        let channels = std::mem::take(self.channels.get_mut());
        let (node, limit) = (self.node.clone(), Deadline::new("closing", self.deadline));
        if !channels.is_empty() {
            background().spawn(async move { node.unsubscribe(channels, limit).await });
        }
    }
}
