//! What implementing the polyqueue contract means, as a test suite.
//!
//! A backend implements [`Harness`] and calls [`run()`]: that runs every case of [`cases`] on it, writes down each call, and
//! judges each history.

pub mod broker;
pub mod case;
pub mod cases;
pub mod check;
pub mod child;
pub mod dedup_store;
pub mod drill;
pub mod env;
pub mod fail;
pub mod faults;
pub mod harness;
pub mod history;
pub mod link;
pub mod model;
pub mod namespace;
pub mod rng;
pub mod roles;
pub mod stage;
pub mod verbs;

mod lateness;
#[allow(dead_code)]
#[cfg(test)]
mod manifest;
mod mishap;
mod recorded;
mod run;
mod series;

pub use bytes::Bytes;
pub use case::{Case, Kind, Need};
pub use child::{Child, ChildSpec};
pub use dedup_store::KeysInMemory;
pub use env::Env;
pub use fail::{Fail, Outcome};
pub use faults::{Fault, FaultKind, Faults, NoFaults, Part, Policy, Right};
pub use harness::{Footprint, Garbage, Harness, Time};
pub use link::{Direction, Link, Linked, LinkedQueue, Traffic};
pub use namespace::Namespace;
pub use polyqueue::{ConnectOptions, Queue, QueueName, Result, async_trait};
pub use rng::Rng;
pub use run::{run, run_with};
pub use stage::Stage;
