//! Counting.

use std::time::Duration;

use polyqueue::{Counters, Error, QueueName, QueueStats, Result};
use tokio::time::Instant;

use crate::connection::handle::Handle;
use crate::connection::steps::{in_time, strange};
use crate::scripts;
use crate::wire::reply::Reply;

pub(crate) async fn stats(handle: &Handle, queue: &QueueName) -> Result<QueueStats> {
    let end = Instant::now() + handle.deadline;
    let meter = handle.meter.of(queue);
    loop {
        let reply = handle.run("stats", &scripts::STATS, queue, |_| {}).await?;
        let counts = reply.into_list().ok_or_else(|| strange("stats"))?;
        meter.dropped(counts.get(1).map_or(0, Reply::count));
        if let Some(counts) = counts.get(2..).filter(|counts| !counts.is_empty()) {
            return counted(counts, meter.snapshot());
        }
        in_time(handle, "stats", end)?;
    }
}

fn counted(counts: &[Reply], counters: Counters) -> Result<QueueStats> {
    let number = |index: usize| counts.get(index).and_then(Reply::number).ok_or_else(|| strange("stats"));
    let count = |index| Ok::<_, Error>(u64::try_from(number(index)?).unwrap_or_default());
    let mut stats = QueueStats::default();
    stats.ready = count(0)?;
    stats.dead = count(1)?;
    stats.delayed = Some(count(2)?);
    stats.in_flight = Some(count(3)?);
    stats.oldest = u64::try_from(number(4)?).ok().map(Duration::from_millis);
    stats.counters = counters;
    Ok(stats)
}
