//! Responders: handlers that answer, and how their answers travel.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{Error, Failure, Message, Payload, Queue, QueueExt, REMOTE_ERROR_KIND};

use super::handler::{ErasedHandler, With};
use super::job::Job;
use super::job_fn::JobFn;

/// What answers the requests of one payload type.
///
/// Every `async fn(Job<T>) -> Result<R, Failure>` is one, as of [`Handler`](crate::Handler); [`with`](crate::with()) lends it a state.
#[diagnostic::on_unimplemented(
    message = "this is no responder that answers `Job<{T}>` with `{R}`: `{Self}`",
    label = "should be an `async fn(Job<{T}>) -> Result<{R}, Failure>`, or `with(state, responder)`",
    note = "a responder with another error returns `Failure`; its body stays, for `?` makes a `Failure` of every error",
    note = "`with` takes the state first, then an `async fn(state, Job<{T}>) -> Result<{R}, Failure>`"
)]
pub trait Responder<T, R>: Send + Sync + 'static {
    /// Does the work and says the answer. `?` on any error tries again later; a request that dies is answered with its
    /// error.
    fn respond(&self, job: Job<T>) -> impl Future<Output = Result<R, Failure>> + Send;
}

impl<T, R, F, Fut> Responder<T, R> for F
where
    F: Fn(Job<T>) -> Fut + JobFn<T, R, Future: Send>,
{
    fn respond(&self, job: Job<T>) -> impl Future<Output = Result<R, Failure>> + Send {
        JobFn::call(self, job)
    }
}

impl<S, T, R, F, Fut> Responder<T, R> for With<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Job<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send,
{
    fn respond(&self, job: Job<T>) -> impl Future<Output = Result<R, Failure>> + Send {
        self.call(job)
    }
}

/// The handler of one request type.
pub(super) struct Answering<T, R, H> {
    queue: Arc<dyn Queue>,
    responder: Arc<H>,
    types: PhantomData<fn(T) -> R>,
}

impl<T, R, H> Answering<T, R, H> {
    pub(super) fn new(queue: Arc<dyn Queue>, responder: H) -> Self {
        Self { queue, responder: Arc::new(responder), types: PhantomData }
    }
}

impl<T: Payload, R: Payload, H: Responder<T, R>> ErasedHandler for Answering<T, R, H> {
    fn version(&self) -> Option<&'static str> {
        Some(T::VERSION)
    }

    fn run(&self, job: Job<()>) -> BoxFuture<'static, Result<(), Failure>> {
        let (queue, responder) = (self.queue.clone(), self.responder.clone());
        Box::pin(async move {
            let message = job.message.clone();
            let payload =
                message.decode().map_err(|error| Failure::Undecodable { error: error.to_string() })?;
            let answer = responder.respond(job.carrying(payload)).await?;
            reply(&*queue, &message, Message::of(&answer).map_err(Failure::fatal)?).await;
            Ok(())
        })
    }
}

/// Tells the requester that its request died.
pub(super) async fn reply_error(queue: Arc<dyn Queue>, request: Arc<Message>, error: String) {
    reply(&*queue, &request, Message::new(error).with_kind(REMOTE_ERROR_KIND)).await;
}

/// The work is done: a reply that finds nobody does not undo it, nor does one that cannot be sent, for doing it again is worse
/// than a requester's timeout.
async fn reply(queue: &dyn Queue, request: &Message, reply: Message) {
    match queue.reply(request, reply).await {
        Ok(_) => {}
        Err(Error::NotFound(_)) => {
            tracing::debug!(name: "worker.reply_unwanted", request = %request.id(), "nobody awaits it any more");
        }
        Err(error) => {
            tracing::warn!(name: "worker.reply_failed", request = %request.id(), %error, "a reply could not be sent")
        }
    }
}
