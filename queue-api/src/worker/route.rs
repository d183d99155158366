//! A handler, and how its runs are told from those of others.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::RetryPolicy;

use super::handler::ErasedHandler;
use super::options::HandlerOptions;
use super::turn::{Backlog, Turn, Turns};

/// All handlers of a worker, by what they are for.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) by_kind: HashMap<&'static str, Arc<Route>>,
    pub(super) others: Option<Arc<Route>>,
}

impl Routes {
    pub(super) fn of(&self, kind: &str) -> Option<&Arc<Route>> {
        self.by_kind.get(kind).or(self.others.as_ref())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Route> {
        self.by_kind.values().chain(&self.others).map(Arc::as_ref)
    }
}

/// A handler as it was given to the worker.
pub(super) type Given = (Arc<dyn ErasedHandler>, HandlerOptions);

/// A handler, with all that holds for its runs.
pub(super) struct Route {
    pub(super) handler: Arc<dyn ErasedHandler>,
    pub(super) retry: RetryPolicy,
    pub(super) timeout: Option<Duration>,
    /// Where its concurrency is bounded.
    turns: Option<Turns>,
}

impl Route {
    /// What was not said is as the worker has it.
    pub(super) fn new((handler, own): Given, retry: &RetryPolicy, timeout: Option<Duration>) -> Self {
        Self {
            handler,
            retry: own.retry.unwrap_or_else(|| retry.clone()),
            timeout: own.timeout.or(timeout),
            turns: own.concurrency.map(Turns::new),
        }
    }

    pub(super) fn max_attempts(&self) -> NonZeroU32 {
        self.retry.max_attempts()
    }

    /// How many of it run at a time, where that is bounded.
    pub(super) fn concurrency(&self) -> Option<usize> {
        self.turns.as_ref().map(Turns::at_a_time)
    }

    /// Where there is neither a turn nor a place to wait for one, how long to give the message back for.
    pub(super) fn turn(&self, backlog: &Backlog, free: impl FnOnce() -> usize) -> Result<Turn, Duration> {
        match &self.turns {
            Some(turns) => turns.turn(backlog, free),
            None => Ok(Turn::Unbounded),
        }
    }
}
