//! Publishes that wait for room: the oldest are woken first, as many as there is room for.

use std::collections::BTreeSet;

use super::ids::WaiterId;
use crate::broker::clock::At;

/// Publishes that wait for room.
#[derive(Debug, Default)]
pub(super) struct BlockedPublishes {
    pub(super) waiters: BTreeSet<WaiterId>,
    /// When the first of them wakes by itself, for something expires then.
    pub(super) armed: Option<At>,
}
