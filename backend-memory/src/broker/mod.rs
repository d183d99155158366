//! The broker itself: namespaces, the byte budget, the clock, and each queue behind its lock.

pub(crate) mod budget;
pub(crate) mod clock;
pub(crate) mod declared;
pub(crate) mod locked_queue;
pub(crate) mod namespace;
pub(crate) mod queue_ref;
pub(crate) mod replies;
pub(crate) mod state;
