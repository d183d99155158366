//! The drill: producers and consumers under random faults for as long as one likes, then a report of what became of each message.
//!
//! A [`Site`] says which broker; an [`Order`] says how long, how many and by which seed; [`run`] does it and answers a [`Report`],
//! whose [`Report::violations`] are empty where the contract held.

mod consumer;
mod crew;
mod deed;
mod disk;
mod duplicates;
mod engine;
mod entry;
mod found;
mod journal;
mod judge;
mod ledger;
mod life;
mod order;
mod plan;
mod private;
mod process;
mod producer;
mod report;
mod setting;
mod site;
mod summary;
mod task;
#[cfg(test)]
mod tests;
mod waits;

pub use engine::run;
pub use order::{Only, Order, Watch};
pub use private::BrokerSite;
pub use process::work;
pub use report::{Happened, Report, Violation};
pub use site::Site;
