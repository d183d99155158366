//! The task that waits for the confirms of one channel and tells everyone his own.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, PublisherConfirm};
use parking_lot::Mutex;
use polyqueue::backend::OpenCall;
use polyqueue::{Certainty, Error, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use crate::address::Address;
use crate::address::NAME;
use crate::connection::fault::fault;
use crate::connection::heard::Heard;
use crate::connection::request::Confirm;
use crate::connection::window::Permit;

/// How many requests are taken up at once.
const ORDERS_AT_ONCE: usize = 256;

type Done = (Pending, lapin::Result<Confirmation>);
type Answer = oneshot::Sender<Result<Confirm>>;
/// A request's frames: with the client since the first poll, written at the end.
type Frames = BoxFuture<'static, lapin::Result<PublisherConfirm>>;

/// What the task is asked for.
pub(crate) enum Command {
    Publish(Pending, Frames),
    Drain(oneshot::Sender<()>),
}

/// Waits for the confirms.
pub(crate) struct ConfirmTracker {
    channel: Arc<Channel>,
    address: Address,
    inbox: mpsc::UnboundedReceiver<Command>,
    gate: Arc<Mutex<()>>,
    heard: Heard,
    drains: Vec<oneshot::Sender<()>>,
    requests: Requests,
    /// Messages that came back and whose confirm has not been looked at yet: key and id.
    returned: Vec<(ShortString, Option<ShortString>)>,
    #[cfg(test)]
    starved: crate::connection::starved::Starved,
}

/// What is on its way.
#[derive(Default)]
struct Requests {
    /// Requests whose frames are with the client but not yet with the operating system, first come first.
    writing: VecDeque<(Pending, Frames)>,
    /// Requests that wait for the broker.
    flying: FuturesUnordered<Unconfirmed>,
}

/// Whose request it is, and how to recognize its message should it come back.
pub(crate) struct Pending {
    pub(crate) exchange: String,
    pub(crate) key: ShortString,
    pub(crate) id: Option<ShortString>,
    pub(crate) answer: Answer,
    pub(crate) open: OpenCall,
    /// Its room, until the broker has answered.
    pub(crate) permit: Permit,
}

/// A request until its confirm.
struct Unconfirmed {
    pending: Option<Pending>,
    confirm: PublisherConfirm,
}

impl Future for Unconfirmed {
    type Output = (Pending, lapin::Result<Confirmation>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let confirmed = ready!(self.confirm.poll_unpin(cx));
        self.pending.take().map_or(Poll::Pending, |pending| Poll::Ready((pending, confirmed)))
    }
}

impl Requests {
    fn is_empty(&self) -> bool {
        self.writing.is_empty() && self.flying.is_empty()
    }

    /// The next confirm. The client writes in order: while the first frames are not written, no later ones are.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        while let Some((_, frames)) = self.writing.front_mut()
            && let Poll::Ready(written) = frames.poll_unpin(cx)
            && let Some((pending, _)) = self.writing.pop_front()
        {
            match written {
                Ok(confirm) => self.flying.push(Unconfirmed { pending: Some(pending), confirm }),
                Err(error) => return Poll::Ready((pending, Err(error))),
            }
        }
        match self.flying.poll_next_unpin(cx) {
            Poll::Ready(Some(done)) => Poll::Ready(done),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// All confirms that have come.
    fn confirmed(&mut self, done: &mut Vec<Done>) {
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            match self.poll(&mut cx) {
                Poll::Ready(next) => done.push(next),
                Poll::Pending if woken.0.swap(false, Relaxed) => {}
                Poll::Pending => return,
            }
        }
    }
}

/// Whether something happened meanwhile.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl ConfirmTracker {
    pub(crate) fn new(
        channel: Arc<Channel>,
        address: Address,
        inbox: mpsc::UnboundedReceiver<Command>,
        gate: Arc<Mutex<()>>,
        heard: Heard,
    ) -> Self {
        let (drains, requests, returned) = Default::default();
        Self {
            channel,
            address,
            inbox,
            gate,
            heard,
            drains,
            requests,
            returned,
            #[cfg(test)]
            starved: Default::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn starved_by(self, starved: crate::connection::starved::Starved) -> Self {
        Self { starved, ..self }
    }

    pub(crate) async fn run(mut self) {
        let mut commands = Vec::new();
        let mut open = true;
        while open || !self.requests.is_empty() {
            #[cfg(test)]
            self.starved.heard("publish").await;
            tokio::select! {
                biased;
                first = poll_fn(|cx| self.requests.poll(cx)), if !self.requests.is_empty() => self.confirmed(first),
                taken = self.inbox.recv_many(&mut commands, ORDERS_AT_ONCE), if open => {
                    open = taken > 0;
                    commands.drain(..).for_each(|command| self.take(command));
                    // Nothing waits for this task but the confirms, which come later: first let others publish.
                    yield_now().await;
                    self.take_all();
                }
            }
            if self.requests.is_empty() {
                self.drains.clear();
                if !self.channel.status().connected() {
                    break;
                }
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Publish(pending, frames) => self.requests.writing.push_back((pending, frames)),
            Command::Drain(done) => self.drains.push(done),
        }
    }

    fn take_all(&mut self) {
        while let Ok(command) = self.inbox.try_recv() {
            self.take(command);
        }
    }

    /// Answers all that is confirmed by now.
    ///
    /// The client hands a returned message over with whatever confirm it meets next, which under a confirm of several
    /// messages need not be its own. A return always comes before the confirm of its own publish, so: take every confirm
    /// that has come, note the returned messages, and only then answer. That every one is taken which came with one that is
    /// answered is certain when a round brings nothing more, in which the client has finished with the frame that it was
    /// reading (touching its table of confirms makes sure of that) and no request was on its way to this task.
    fn confirmed(&mut self, first: Done) {
        let mut done = vec![first];
        let mut before = 0;
        while before < done.len() {
            before = done.len();
            let _ = self.channel.wait_for_confirms().now_or_never();
            drop(self.gate.lock());
            self.take_all();
            self.requests.confirmed(&mut done);
        }
        let mut answers = Vec::with_capacity(done.len());
        for (pending, result) in done {
            answers.push((pending, result.map(|confirmation| self.note_return(confirmation))));
        }
        self.heard.now();
        for (pending, result) in answers {
            let returned = self.was_returned(&pending);
            let answer = match result {
                Err(error) => Err(unknown(&self.address, &pending.exchange, &error)),
                Ok(_) if returned => Ok(Confirm::Unroutable),
                Ok(true) => Ok(Confirm::Stored),
                Ok(false) => Err(refused(&self.address)),
            };
            drop((pending.open, pending.permit));
            let _ = pending.answer.send(answer);
        }
    }

    /// Whether the broker accepted; a returned message that came along is remembered until its own confirm.
    fn note_return(&mut self, confirmation: Confirmation) -> bool {
        let accepted = confirmation.is_ack();
        if let Some(message) = confirmation.take_message() {
            let id = message.properties.message_id().clone();
            self.returned.push((message.routing_key.clone(), id));
        }
        accepted
    }

    fn was_returned(&mut self, pending: &Pending) -> bool {
        let mine = self.returned.iter().position(|(key, id)| *key == pending.key && *id == pending.id);
        mine.map(|at| self.returned.swap_remove(at)).is_some()
    }
}

/// The broker says that it does not take a message.
pub(crate) fn refused(address: &Address) -> Error {
    let said = format!("{address}: the broker refused the message");
    Error::unavailable(NAME, Certainty::Definite, said)
}

/// Nobody knows whether the message was stored. A channel's end is the fault of one who publishes there and the loss of all, so
/// that only who publishes to the exchange that it is about is told more than that it passes.
pub(crate) fn unknown(address: &Address, exchange: &str, error: &lapin::Error) -> Error {
    let own = format!("exchange '{exchange}'");
    match fault(address, Certainty::Unknown, error) {
        Error::Denied { .. } | Error::Backend { .. } if !error.to_string().contains(&own) => {
            Error::unavailable(NAME, Certainty::Unknown, format!("{address}: {error}"))
        }
        Error::Backend { cause, .. } => Error::unavailable(NAME, Certainty::Unknown, cause.to_string()),
        other => other,
    }
}
