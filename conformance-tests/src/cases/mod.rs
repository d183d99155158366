//! All cases: one table of tables.

use crate::Case;

mod admin;
mod arrival;
pub(crate) mod attempts;
mod batch;
mod burial;
mod content;
mod crew;
mod crowd;
mod dead_letter;
mod deaf;
mod delay;
mod delay_crowd;
mod deliver;
mod fault;
mod hand;
mod history;
mod input;
mod interrupt;
mod lease;
mod lease_race;
mod lifecycle;
mod model;
mod priority;
mod priority_crowd;
mod publish;
mod redrive;
mod retry;
mod schema;
mod settle;
mod starvation;
mod stats_under_load;
mod time;
mod worker;
mod worker_time;

const TABLES: &[&[Case]] = &[
    publish::CASES,
    batch::CASES,
    deliver::CASES,
    priority::CASES,
    priority_crowd::CASES,
    starvation::CASES,
    delay::CASES,
    delay_crowd::CASES,
    time::CASES,
    retry::CASES,
    attempts::CASES,
    dead_letter::CASES,
    burial::CASES,
    redrive::CASES,
    lease::CASES,
    lease_race::CASES,
    settle::CASES,
    content::CASES,
    input::CASES,
    admin::CASES,
    stats_under_load::CASES,
    lifecycle::CASES,
    history::CASES,
    model::CASES,
    worker::CASES,
    schema::CASES,
    worker_time::CASES,
];

/// Every case, in the order of the tables.
pub fn all() -> Vec<&'static Case> {
    TABLES.iter().copied().flatten().collect()
}
