//! All cases: one table of tables.

use crate::Case;

mod absence;
mod admin;
mod alarm;
pub(crate) mod arrival;
mod attempts;
mod batch;
mod binding;
mod closing;
mod content;
mod crew;
mod crowd;
mod crowd_under_faults;
mod cut;
mod dead_letter;
mod dead_lettering;
mod deaf;
mod dedup;
mod delay;
mod delay_crowd;
mod deletion;
mod deliver;
mod events;
mod extremes;
mod failed_death;
mod fan_out;
mod fault;
mod footprint;
mod group;
pub(crate) mod hand;
mod health;
mod history;
mod inbox;
mod input;
mod interrupt;
mod keyed;
mod lease;
mod lease_race;
pub(crate) mod ledger;
mod lifecycle;
mod linear;
mod membership;
mod model;
mod namespace;
mod outage;
mod own_retry;
mod pressure;
mod priority;
mod priority_crowd;
mod processes;
mod publish;
mod redrive;
mod refusal;
mod request;
mod reschedule;
mod retention;
mod retry;
mod room;
mod route;
mod schedule;
mod schema;
mod separation;
mod settle;
mod sharing;
mod starvation;
mod stats_under_load;
mod threads;
mod time;
mod topic;
pub(crate) mod traffic;
mod transcript;
mod ttl;
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
    own_retry::CASES,
    attempts::CASES,
    dead_letter::CASES,
    dead_lettering::CASES,
    redrive::CASES,
    lease::CASES,
    lease_race::CASES,
    settle::CASES,
    content::CASES,
    input::CASES,
    extremes::CASES,
    admin::CASES,
    stats_under_load::CASES,
    topic::CASES,
    fan_out::CASES,
    binding::CASES,
    group::CASES,
    request::CASES,
    inbox::CASES,
    ttl::CASES,
    dedup::CASES,
    room::CASES,
    retention::CASES,
    pressure::CASES,
    outage::CASES,
    closing::CASES,
    cut::CASES,
    absence::CASES,
    schedule::CASES,
    crowd_under_faults::CASES,
    linear::CASES,
    refusal::CASES,
    footprint::CASES,
    separation::CASES,
    processes::CASES,
    health::CASES,
    failed_death::CASES,
    deletion::CASES,
    alarm::CASES,
    reschedule::CASES,
    lifecycle::CASES,
    events::CASES,
    threads::CASES,
    namespace::CASES,
    history::CASES,
    model::CASES,
    transcript::CASES,
    membership::CASES,
    worker::CASES,
    sharing::CASES,
    schema::CASES,
    worker_time::CASES,
];

/// Every case, in the order of the tables.
pub fn all() -> Vec<&'static Case> {
    TABLES.iter().copied().flatten().collect()
}
