//! Claiming: asking the server for messages, under a lease.

use std::time::Duration;

use polyqueue::backend::Deadline;
use polyqueue::{Certainty, Error, Message, Priority, QueueName, Result};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::node::{Answer, Node};
use crate::scripts;
use crate::wire::codec;
use crate::wire::codec::{Fields, Unreadable};
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;
use crate::wire::time::millis;

/// What is asked for.
pub(crate) struct Wanted<'a> {
    pub(crate) queue: &'a QueueName,
    pub(crate) keys: &'a QueueKeys,
    pub(crate) messages: usize,
    pub(crate) lease: Duration,
    /// Unique to this call, names the consumer.
    pub(crate) nonce: String,
    /// Whom to wake when there is nothing now.
    pub(crate) waiter: Option<&'a str>,
    pub(crate) max_attempts: u32,
    pub(crate) consumer: &'a str,
    /// Whether little is expected: where the last claim found an end.
    pub(crate) sparse: bool,
}

/// What there was.
pub(crate) struct Claimed {
    pub(crate) messages: Vec<Leased>,
    /// As many as asked for: there may be more.
    pub(crate) full: bool,
    /// Something was due that could not be applied in one call: ask again.
    pub(crate) more: bool,
    /// When there was nothing: how long until something is due.
    pub(crate) next: Option<Duration>,
    /// When there was nothing: how many consumers wait for it.
    pub(crate) crowd: u64,
    /// Dead letters that were not to be kept.
    pub(crate) dropped: u64,
    /// What the server's clock said.
    pub(crate) clock: Clock,
    /// Whether the waiter was still known as one that waits.
    pub(crate) known: bool,
}

/// A look at the server's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Before it was read.
    before: Instant,
    /// In ms, rounded up.
    time: u64,
}

impl Clock {
    /// When it says a later time at the earliest: no lease that was counted from there ends before one counted from here. Should
    /// it have been put forward meanwhile, it is now.
    pub(crate) fn earliest(&self, time: u64) -> Instant {
        let passed = Duration::from_millis(time.saturating_sub(self.time));
        self.before.checked_add(passed).map_or_else(Instant::now, |then| then.min(Instant::now()))
    }
}

/// A message under a lease.
pub(crate) struct Leased {
    pub(crate) lease: String,
    pub(crate) until: Instant,
    pub(crate) attempt: u32,
    pub(crate) message: Result<Message, Unreadable>,
}

/// A claim of no message: applies what is due and wakes somebody else.
pub(crate) fn nothing(keys: &QueueKeys) -> Request {
    let mut request = Request::script(&scripts::CLAIM, keys);
    request.number(0).number(1).arg("-").arg("").number(1).arg("").number(1);
    request
}

impl Wanted<'_> {
    pub(crate) async fn claim(&self, node: &std::sync::Arc<Node>, limit: Deadline) -> Result<Claimed> {
        let mut request = Request::script(&scripts::CLAIM, self.keys);
        request.number(self.messages as u64).number(millis(self.lease)).arg(&self.nonce);
        request.arg(self.waiter.unwrap_or_default()).number(self.max_attempts.into()).arg(self.consumer);
        request.number(self.sparse.into());
        let Answer { reply, sent } = node.call(request, limit).await?;
        if reply == Reply::Number(0) {
            return Err(Error::not_found(self.queue.clone()));
        }
        let strange = || Error::backend(NAME, Certainty::Unknown, "an answer to a claim that is none");
        self.read(reply, sent).ok_or_else(strange)
    }

    fn read(&self, reply: Reply, sent: Instant) -> Option<Claimed> {
        let mut answer = reply.into_list()?.into_iter();
        let full = answer.next()?.number()? == 1;
        let more = answer.next()?.number()? == 1;
        let next = u64::try_from(answer.next()?.number()?).ok().map(Duration::from_micros);
        let crowd = u64::try_from(answer.next()?.number()?).ok()?;
        let dropped = answer.next()?.count();
        let clock = Clock { before: sent, time: answer.next()?.count() };
        let known = answer.next()?.number()? == 1;
        let until = sent + self.lease;
        let messages = answer.map(|entry| self.leased(entry, until)).collect::<Option<_>>()?;
        Some(Claimed { messages, full, more, next, crowd, dropped, clock, known })
    }

    fn leased(&self, entry: Reply, until: Instant) -> Option<Leased> {
        let [p, id, max, fields] = <[Reply; 4]>::try_from(entry.into_list()?).ok()?;
        let (p, id, max) = (p.number()?, id.into_text()?, max.into_text()?);
        let fields = Fields::from_reply(fields)?;
        let lease = format!("{p}:{id}:{}:{max}:{}", self.nonce, self.consumer);
        let message = codec::read(&fields, &id, Priority::new(p).ok()?);
        let attempt = fields.number("a").ok().flatten().unwrap_or_default().saturating_add(1);
        Some(Leased { lease, until, attempt, message })
    }
}
