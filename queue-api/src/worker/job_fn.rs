//! The functions that handlers and responders are.

use std::future::Future;

use crate::Failure;

use super::job::Job;

/// An `async fn(Job<T>) -> Result<R, Failure>`, whether its future is `Send` or not. Apart from that question, so that the
/// compiler answers it with the value that is kept over an await, and all else with what a handler should be.
pub trait JobFn<T, R>: Send + Sync + 'static {
    /// What it returns.
    type Future: Future<Output = Result<R, Failure>>;

    /// Calls it.
    fn call(&self, job: Job<T>) -> Self::Future;
}

#[diagnostic::do_not_recommend]
impl<T, R, F, Fut> JobFn<T, R> for F
where
    F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Failure>>,
{
    type Future = Fut;

    fn call(&self, job: Job<T>) -> Fut {
        self(job)
    }
}
