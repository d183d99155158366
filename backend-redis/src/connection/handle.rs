//! What one handle and its consumers share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use polyqueue::backend::{Deadline, Lifecycle};
use polyqueue::{Error, Info, Meter, QueueName, Result};

use crate::connection::node::Node;
use crate::connection::notifier::Notifier;
use crate::wire::names;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::{Request, Script};

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
    /// Numbers consumers, and publishers that wait for room.
    pub(crate) waiters: AtomicU64,
}

impl Handle {
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
