//! Claiming: asking the server for messages, under a lease.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::Deadline;
use polyqueue::{Certainty, DeadReason, Error, Message, MessageId, Priority, QueueName, Result};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::clock::Clock;
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
    /// Where publishers find the consumer.
    pub(crate) waiter: &'a str,
    pub(crate) place: Place,
    /// About the most bytes; one message always fits.
    pub(crate) bytes: u64,
    pub(crate) max_attempts: u32,
    pub(crate) consumer: &'a str,
    /// Whether little is expected: where the last claim found an end.
    pub(crate) sparse: bool,
}

/// What the consumer has to do with the list of those that wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// It is to stand there when there is nothing.
    pub(crate) park: bool,
    /// It stands there, as far as it knows: should somebody have found it, it is told nothing else.
    pub(crate) listed: bool,
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
    /// Who died though no verdict asked for it, each with the reason.
    pub(crate) died: Deaths,
    /// Keys of the queue that were none of ours.
    pub(crate) set_aside: Vec<String>,
    /// What the server's clock said.
    pub(crate) clock: Clock,
    /// Whether the waiter was still known as one that waits.
    pub(crate) known: bool,
}

/// A message under a lease.
pub(crate) struct Leased {
    pub(crate) lease: String,
    pub(crate) until: Instant,
    /// The same by the server's clock, in ms.
    pub(crate) ends: u64,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) message: Result<Message, Unreadable>,
}

/// A claim of no message: applies what is due and wakes somebody else.
pub(crate) fn nothing(keys: &QueueKeys) -> Request {
    let mut request = Request::script(&scripts::CLAIM, keys);
    request.number(0).number(1).arg("-").arg("").number(1).arg("").number(1).number(1).number(0).number(0);
    request
}

impl Wanted<'_> {
    /// # Errors
    /// Also [`Error::Timeout`], definite, when the server got to it only after the time was up.
    pub(crate) async fn claim(&self, node: &Arc<Node>, limit: Deadline) -> Result<Claimed> {
        let not_after = node.clock().map_or(0, |clock| clock.latest(limit.until()));
        let mut request = Request::script(&scripts::CLAIM, self.keys);
        request.number(self.messages as u64).number(millis(self.lease)).arg(&self.nonce);
        request.arg(self.waiter).number(self.max_attempts.into()).arg(self.consumer);
        request.number(self.sparse.into()).number(self.bytes).number(not_after);
        request.number(u64::from(self.place.park) + 2 * u64::from(self.place.listed));
        let Answer { reply, sent } = node.call_for_much(request, limit).await?;
        if reply == Reply::Number(0) {
            return Err(Error::not_found(self.queue.clone()));
        }
        if let Reply::List(list) = &reply
            && let [_, time] = &list[..]
        {
            node.set_clock(Clock::new(sent, time.count()));
            return Err(limit.error(Certainty::Definite));
        }
        let strange = || Error::backend(NAME, Certainty::Unknown, "an answer to a claim that is none");
        let claimed = self.read(reply, sent).ok_or_else(strange)?;
        node.set_clock(claimed.clock);
        Ok(claimed)
    }

    fn read(&self, reply: Reply, sent: Instant) -> Option<Claimed> {
        let mut answer = reply.into_list()?.into_iter();
        let full = answer.next()?.number()? == 1;
        let more = answer.next()?.number()? == 1;
        let next = u64::try_from(answer.next()?.number()?).ok().map(Duration::from_micros);
        let crowd = u64::try_from(answer.next()?.number()?).ok()?;
        let (dropped, died, set_aside) = deaths(answer.next()?)?;
        let time = answer.next()?.count();
        let clock = Clock::new(sent, time);
        let known = answer.next()?.number()? == 1;
        let (until, ends) = (sent + self.lease, time + millis(self.lease));
        let messages = answer.map(|entry| self.leased(entry, until, ends)).collect::<Option<_>>()?;
        Some(Claimed { messages, full, more, next, crowd, dropped, died, set_aside, clock, known })
    }

    fn leased(&self, entry: Reply, until: Instant, ends: u64) -> Option<Leased> {
        let [p, id, max, fields] = <[Reply; 4]>::try_from(entry.into_list()?).ok()?;
        let (p, id, max) = (p.number()?, id.into_text()?, max.into_text()?);
        let fields = Fields::from_reply(fields)?;
        let lease = format!("{p}:{id}:{}:{max}:{}", self.nonce, self.consumer);
        let message = codec::read(&fields, &id, Priority::new(p).ok()?);
        let attempt = fields.number("a").ok().flatten().unwrap_or_default().saturating_add(1);
        let max_attempts = max.parse().ok()?;
        Some(Leased { lease, until, ends, attempt, max_attempts, message })
    }
}

/// Who died, each with the reason.
type Deaths = Vec<(MessageId, DeadReason)>;

/// How many letters were dropped, who died, and which keys were set aside.
fn deaths(reply: Reply) -> Option<(u64, Deaths, Vec<String>)> {
    let mut told = reply.into_list()?.into_iter();
    let (dropped, mut died, mut set_aside) = (told.next()?.count(), Vec::new(), Vec::new());
    while let Some((id, reason)) = told.next().zip(told.next()) {
        let (id, reason) = (id.into_text()?, reason.into_text()?);
        if reason == "set_aside" {
            set_aside.push(id);
            continue;
        }
        // A foreign message may have an id that is none of ours.
        died.extend(MessageId::new(id).ok().zip(reason.parse().ok()));
    }
    Some((dropped, died, set_aside))
}
