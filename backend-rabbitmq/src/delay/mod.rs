//! How a message waits: in queues by when it is due, out of which one client at a time moves what is.

pub(crate) mod active;
pub(crate) mod bounds;
pub(crate) mod clock;
pub(crate) mod ending;
pub(crate) mod ensure;
pub(crate) mod errand;
pub(crate) mod held;
pub(crate) mod mover;
pub(crate) mod moves;
pub(crate) mod owner;
pub(crate) mod probe;
pub(crate) mod reader;
pub(crate) mod request;
pub(crate) mod returned;
pub(crate) mod schedule;
pub(crate) mod shared;
pub(crate) mod slots;
pub(crate) mod standstill;
pub(crate) mod turn;
pub(crate) mod wheel;
pub(crate) mod window;
