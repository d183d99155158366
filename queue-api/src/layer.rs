//! Wrapping a queue in another: one hook.

use std::sync::Arc;

use crate::Queue;

/// Turns a queue into another that does something more. Every `Fn(Arc<dyn Queue>) -> Arc<dyn Queue>` is one.
pub trait Layer {
    /// The queue that stands before `inner`.
    fn layer(&self, inner: Arc<dyn Queue>) -> Arc<dyn Queue>;
}

impl<F: Fn(Arc<dyn Queue>) -> Arc<dyn Queue>> Layer for F {
    fn layer(&self, inner: Arc<dyn Queue>) -> Arc<dyn Queue> {
        self(inner)
    }
}
