//! What a server says of itself, also one that is not fit for a queue.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use polyqueue::{ConnectOptions, QueueName, Result};
use redis::cmd;

use crate::address::Address;
use crate::admin::unreadable::unreadable;
use crate::connection::single::Single;

/// What a server says of itself. Each is known, or the error says why it is not: the right to ask may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// Its version, as `7.0.15`.
    pub version: Result<String, String>,
    /// Whether it writes an append-only file.
    pub append_only: Result<bool, String>,
    /// When that is forced to the disk: `always`, `everysec` or `no`.
    pub append_fsync: Result<String, String>,
    /// What it removes when its memory is full; `noeviction` is nothing.
    pub eviction_policy: Result<String, String>,
    /// How much its clock is ahead of ours.
    pub clock_ahead: Result<TimeDelta, String>,
    /// How many entries of this namespace cannot be read, by queue, of the oldest 1,000 of each priority.
    pub unreadable: Result<BTreeMap<QueueName, u64>, String>,
}

/// Asks a server about itself over a connection of its own. It may be one that [`PROVIDER`](crate::PROVIDER) refuses.
///
/// # Errors
/// It cannot be reached, or refuses the user.
pub async fn diagnose(options: &ConnectOptions) -> Result<Diagnosis> {
    options.check()?;
    let address = Address::parse(&options.url, &options.tls)?;
    let mut server = Single::open(&address, options.deadline).await?;
    let info = server.ask::<String>(&cmd("INFO")).await;
    let config = server.ask::<HashMap<String, String>>(cmd("CONFIG").arg("GET").arg("appendfsync")).await;
    let clock_ahead = clock_ahead(&mut server).await;
    let unreadable = unreadable(&mut server, &options.namespace).await;
    let field = |name: &str| match &info {
        Ok(info) => said(info, name).map(str::to_owned).ok_or(format!("INFO says nothing of {name}")),
        Err(error) => Err(format!("INFO: {error}")),
    };
    Ok(Diagnosis {
        version: field("redis_version"),
        append_only: field("aof_enabled").map(|enabled| enabled == "1"),
        append_fsync: config.map_err(|error| format!("CONFIG GET: {error}")).and_then(|said| {
            said.into_values().next().ok_or("CONFIG GET says nothing of appendfsync".into())
        }),
        eviction_policy: field("maxmemory_policy"),
        clock_ahead,
        unreadable,
    })
}

fn said<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Against the middle of the time that the question took.
async fn clock_ahead(server: &mut Single) -> Result<TimeDelta, String> {
    let asked = Utc::now();
    let (seconds, micros) =
        server.ask::<(i64, u32)>(&cmd("TIME")).await.map_err(|error| format!("TIME: {error}"))?;
    let ours = asked + (Utc::now() - asked) / 2;
    let theirs = DateTime::from_timestamp(seconds, micros.saturating_mul(1000));
    theirs.map(|theirs| theirs - ours).ok_or(format!("TIME: {seconds} s is no time"))
}
