//! What a batch is for: the call that sends it.

use std::future::{Future, pending};

use super::deadline::Deadline;
use crate::{Error, Result};

/// What a [`Batcher`](super::Batcher) does with its items.
pub trait BatchCall: Send + Sync + 'static {
    /// What is sent.
    type Item: Send + 'static;
    /// What each item is answered with.
    type Answer: Send + 'static;
    /// What a call is named in an error.
    const NAME: &'static str;
    /// The most calls under way: enough that client and server work at the same time.
    const CALLS: usize = 3;
    /// The most items of one call.
    const MAX_ITEMS: usize = 100;
    /// About the most bytes of one call: none is added once there are as many.
    const MAX_BYTES: usize = 8 * 1024 * 1024;

    /// How many bytes an item has.
    fn bytes(item: &Self::Item) -> usize;

    /// Sends the items in one call. Answers each, in order.
    fn call(
        &self,
        items: Vec<Self::Item>,
        deadline: Deadline,
    ) -> impl Future<Output = Vec<Result<Self::Answer>>> + Send;

    /// Why nothing can be sent now. Items wait while there is such a reason, and those that it outlasts end with it, definite.
    fn obstacle(&self) -> Option<Error> {
        None
    }

    /// Ends when there may be no obstacle any more.
    fn unobstructed(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}
