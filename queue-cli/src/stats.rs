//! `polyqueue stats`: how many messages are where.

use std::time::Duration;

use polyqueue::{Queue, QueueName, QueueStats};
use serde::Serialize;

use crate::args::Output;
use crate::exit::{Exit, Result};
use crate::{escape, show, stdout};

#[derive(Serialize)]
struct Row<'a> {
    queue: &'a QueueName,
    ready: u64,
    delayed: Option<u64>,
    in_flight: Option<u64>,
    dead: u64,
    oldest_ms: Option<u64>,
}

pub(crate) async fn run(queue: &dyn Queue, name: Option<&QueueName>, output: Output) -> Result<()> {
    let names = match name {
        Some(name) => vec![name.clone()],
        None => queue.queues().await?.into_iter().map(|spec| spec.name).collect(),
    };
    if names.is_empty() {
        return Err(Exit::NothingThere("no queue in this namespace".into()));
    }
    let mut all = Vec::with_capacity(names.len());
    for name in &names {
        all.push((name, queue.stats(name).await?));
    }
    print(&all, output)
}

fn print(all: &[(&QueueName, QueueStats)], output: Output) -> Result<()> {
    match output {
        Output::Json => {
            let rows: Vec<Row<'_>> = all.iter().map(|(name, stats)| row(name, stats)).collect();
            stdout::line(show::json(&rows)?)
        }
        Output::Table => stdout::line(table(all)),
    }
}

fn row<'a>(queue: &'a QueueName, stats: &QueueStats) -> Row<'a> {
    Row {
        queue,
        ready: stats.ready,
        delayed: stats.delayed,
        in_flight: stats.in_flight,
        dead: stats.dead,
        oldest_ms: stats.oldest.map(|age| age.as_millis() as u64),
    }
}

/// A row a queue; `?` stands for what this broker cannot tell.
pub(crate) fn table(all: &[(&QueueName, QueueStats)]) -> comfy_table::Table {
    let mut table = show::table(["queue", "ready", "delayed", "in flight", "dead", "oldest"]);
    let known = |count: Option<u64>| count.map_or("?".into(), |n| n.to_string());
    for (name, stats) in all {
        table.add_row([
            escape::line(name.as_str()).into_owned(),
            stats.ready.to_string(),
            known(stats.delayed),
            known(stats.in_flight),
            stats.dead.to_string(),
            stats.oldest.map_or("-".into(), age),
        ]);
    }
    table
}

fn age(age: Duration) -> String {
    let coarse = if age >= Duration::from_secs(10) {
        Duration::from_secs(age.as_secs())
    } else {
        Duration::from_millis(age.as_millis() as u64)
    };
    humantime::format_duration(coarse).to_string()
}
