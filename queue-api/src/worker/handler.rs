//! Handlers: what an application writes, and how the worker holds handlers of different payloads side by side.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{Failure, Payload};

use super::job::Job;
use super::job_fn::JobFn;

/// What handles the jobs of one payload type.
///
/// Every `async fn(Job<T>) -> Result<(), Failure>` is one, every closure `|job: Job<T>| async move { … }`, and every
/// `Arc` of a handler. The closure's argument needs its type. Its future must be `Send`.
///
/// What is no handler, the compiler answers with what one should be. A function that is not async:
///
/// ```compile_fail,E0277
/// # use polyqueue::{Bytes, Failure, Handler, Job};
/// fn handler(_: impl Handler<Bytes>) {}
/// fn print(_job: Job<Bytes>) -> Result<(), Failure> { Ok(()) }
/// handler(print);
/// // error[E0277]: this is no handler of `Job<Bytes>`: `fn(Job<Bytes>) -> Result<(), Failure> {print}`
/// //   ^^^^^ should be an `async fn(Job<Bytes>) -> Result<(), Failure>`, or `with(state, handler)`
/// ```
///
/// One that takes the payload without its job:
///
/// ```compile_fail,E0631
/// # use polyqueue::{Bytes, Failure, Handler, Job};
/// fn handler(_: impl Handler<Bytes>) {}
/// async fn print(_payload: Bytes) -> Result<(), Failure> { Ok(()) }
/// handler(print);
/// // error[E0631]: type mismatch in function arguments
/// //   = note: expected function signature `fn(Job<_>) -> _`
/// //              found function signature `fn(Bytes) -> _`
/// ```
///
/// One that returns another error, such as `anyhow::Result<()>`:
///
/// ```compile_fail,E0277
/// # use polyqueue::{Bytes, Handler, Job};
/// fn handler(_: impl Handler<Bytes>) {}
/// async fn print(_job: Job<Bytes>) -> std::io::Result<()> { Ok(()) }
/// handler(print);
/// // error[E0277]: this is no handler of `Job<Bytes>`: `fn(Job<Bytes>) -> impl Future<Output = Result<(), Error>> {print}`
/// //   ^^^^^ should be an `async fn(Job<Bytes>) -> Result<(), Failure>`, or `with(state, handler)`
/// //   = note: a handler with another error returns `Failure`; its body stays, for `?` makes a `Failure` of every error
/// ```
///
/// The compiler refuses an *async closure that captures* (`async |job: Job<T>| …` using a variable from outside), because
/// its future borrows from the closure; [`with`] hands such a state to one that captures nothing:
///
/// ```compile_fail
/// # use polyqueue::{Bytes, Handler, Job};
/// fn handler(_: impl Handler<Bytes>) {}
/// let name = String::from("outside");
/// handler(async move |_job: Job<Bytes>| { println!("{name}"); Ok(()) });
/// ```
///
/// It also refuses a handler whose future is not `Send` ("future cannot be sent between threads safely"), for
/// example one that keeps an `Rc` over an await:
///
/// ```compile_fail
/// # use polyqueue::{Bytes, Handler, Job};
/// fn handler(_: impl Handler<Bytes>) {}
/// handler(async |_job: Job<Bytes>| {
///     let kept = std::rc::Rc::new(1);
///     tokio::task::yield_now().await;
///     drop(kept);
///     Ok(())
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "this is no handler of `Job<{T}>`: `{Self}`",
    label = "should be an `async fn(Job<{T}>) -> Result<(), Failure>`, or `with(state, handler)`",
    note = "a handler with another error returns `Failure`; its body stays, for `?` makes a `Failure` of every error",
    note = "`with` takes the state first, then an `async fn(state, Job<{T}>) -> Result<(), Failure>`"
)]
pub trait Handler<T>: Send + Sync + 'static {
    /// Does the work. `Ok` acknowledges the message; `?` on any error tries again later; see [`Failure`].
    fn handle(&self, job: Job<T>) -> impl Future<Output = Result<(), Failure>> + Send;
}

impl<T, F, Fut> Handler<T> for F
where
    F: Fn(Job<T>) -> Fut + JobFn<T, (), Future: Send>,
{
    fn handle(&self, job: Job<T>) -> impl Future<Output = Result<(), Failure>> + Send {
        JobFn::call(self, job)
    }
}

impl<T, H: Handler<T>> Handler<T> for Arc<H> {
    fn handle(&self, job: Job<T>) -> impl Future<Output = Result<(), Failure>> + Send {
        H::handle(self, job)
    }
}

/// A handler or [`Responder`](crate::Responder) that gets a state beside the job: a clone for each, so a pool, a client or an `Arc`.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering::Relaxed}};
/// use polyqueue::{Bytes, Handler, Job, QueueName, with};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let seen = Arc::new(AtomicU32::new(0));
/// let handler = with(seen.clone(), async |seen, _job: Job<Bytes>| {
///     seen.fetch_add(1, Relaxed);
///     Ok(())
/// });
/// handler.handle(Job::of(QueueName::from_static("mail"), Bytes::new())).await.unwrap();
/// assert_eq!(seen.load(Relaxed), 1);
/// # }
/// ```
///
/// The state stands first, here and in the handler:
///
/// ```compile_fail,E0277
/// # use polyqueue::{Bytes, Handler, Job, with};
/// # fn handler(_: impl Handler<Bytes>) {}
/// handler(with(async |seen: u32, _job: Job<Bytes>| Ok(()), 7));
/// // error[E0277]: expected a `Fn(_, Job<_>)` closure, found `{integer}`
/// // error[E0277]: this is no handler of `Job<Bytes>`: `With<{async closure}, {integer}>`
/// //   = note: `with` takes the state first, then an `async fn(state, Job<Bytes>) -> Result<(), Failure>`
/// ```
pub fn with<S, T, R, F, Fut>(state: S, handler: F) -> With<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Job<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send,
{
    With { state, handler }
}

/// A handler and its state; made by [`with`].
#[derive(Clone, Debug)]
pub struct With<S, F> {
    state: S,
    handler: F,
}

impl<S: Clone, F> With<S, F> {
    pub(super) fn call<T, Fut>(&self, job: Job<T>) -> Fut
    where
        F: Fn(S, Job<T>) -> Fut,
    {
        (self.handler)(self.state.clone(), job)
    }
}

impl<S, T, F, Fut> Handler<T> for With<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Job<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    fn handle(&self, job: Job<T>) -> impl Future<Output = Result<(), Failure>> + Send {
        self.call(job)
    }
}

/// A handler whose payload type is hidden: what the worker keeps by kind.
pub(super) trait ErasedHandler: Send + Sync {
    /// The version of the schema that it reads; `None` when it reads none.
    fn version(&self) -> Option<&'static str>;
    /// Decodes and handles.
    fn run(&self, job: Job<()>) -> BoxFuture<'static, Result<(), Failure>>;
}

/// The handler of one payload type.
pub(super) struct Typed<T, H> {
    handler: Arc<H>,
    payload: PhantomData<fn() -> T>,
}

impl<T, H> Typed<T, H> {
    pub(super) fn new(handler: H) -> Self {
        Self { handler: Arc::new(handler), payload: PhantomData }
    }
}

impl<T: Payload, H: Handler<T>> ErasedHandler for Typed<T, H> {
    fn version(&self) -> Option<&'static str> {
        Some(T::VERSION)
    }

    fn run(&self, job: Job<()>) -> BoxFuture<'static, Result<(), Failure>> {
        let handler = self.handler.clone();
        Box::pin(async move {
            let payload =
                job.message.decode().map_err(|error| Failure::Undecodable { error: error.to_string() })?;
            handler.handle(job.carrying(payload)).await
        })
    }
}

/// The handler of everything else: the bytes as they are.
pub(super) struct Others<H>(pub(super) Arc<H>);

impl<H: Handler<Bytes>> ErasedHandler for Others<H> {
    fn version(&self) -> Option<&'static str> {
        None
    }

    fn run(&self, job: Job<()>) -> BoxFuture<'static, Result<(), Failure>> {
        let handler = self.0.clone();
        Box::pin(async move {
            let payload = job.message.payload().clone();
            handler.handle(job.carrying(payload)).await
        })
    }
}
