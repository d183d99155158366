//! Handlers that block their thread.

use std::future::Future;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tracing::Span;

use crate::Failure;

use super::handler::Handler;
use super::job::Job;

/// A handler made of a function that blocks: each call runs on one of tokio's threads for that, so that heartbeats, verdicts
/// and other handlers go on, on a runtime of one thread as well. [`Worker::on_blocking`](crate::Worker::on_blocking) does this by
/// itself; this is for [`Worker::on_with`](crate::Worker::on_with) and for tests.
///
/// ```
/// use polyqueue::{Bytes, Failure, Handler, Job, QueueName, blocking};
///
/// fn shrink(job: Job<Bytes>) -> Result<(), Failure> {
///     std::thread::sleep(std::time::Duration::from_millis(1)); // a library that knows nothing of async
///     if job.payload.is_empty() { Err(Failure::fatal("no image")) } else { Ok(()) }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let job = Job::of(QueueName::from_static("images"), Bytes::from("an image"));
/// assert_eq!(blocking(shrink).handle(job).await, Ok(()));
/// # }
/// ```
pub fn blocking<T, F>(handler: F) -> Blocking<F>
where
    F: Fn(Job<T>) -> Result<(), Failure> + Send + Sync + 'static,
{
    Blocking(Arc::new(handler))
}

/// A handler that blocks; made by [`blocking`].
#[derive(Clone, Debug)]
pub struct Blocking<F>(Arc<F>);

impl<T, F> Handler<T> for Blocking<F>
where
    T: Send + 'static,
    F: Fn(Job<T>) -> Result<(), Failure> + Send + Sync + 'static,
{
    fn handle(&self, job: Job<T>) -> impl Future<Output = Result<(), Failure>> + Send {
        let (handler, span) = (self.0.clone(), Span::current());
        async move {
            let ended = spawn_blocking(move || span.in_scope(|| handler(job))).await;
            ended.unwrap_or_else(|error| match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(error) => Err(Failure::from(error)),
            })
        }
    }
}
