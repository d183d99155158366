//! Which queues there are, and what is bound to them.

pub(crate) mod declare;
