//! The operator's half: listing, counting, purging, dead letters, health.

use std::time::Duration;

use polyqueue::backend::Deadline;
use polyqueue::{
    Admin, Certainty, Counters, DeadFilter, DeadId, DeadPage, Error, Health, MessageId, Page, Pattern, Purge,
    QueueName, QueueSpec, QueueStats, Reschedule, Result, async_trait,
};
use tokio::time::{Instant, timeout};

use crate::link::{Reply, Request, Script};
use crate::queue::RedisQueue;
use crate::time::millis;
use crate::{NAME, letters, scripts};

/// How long a look at the server's health may take.
const HEALTH: Duration = Duration::from_millis(900);

#[async_trait]
impl Admin for RedisQueue {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        self.hub.check_open()?;
        self.hub.catalogue.queues(Deadline::new("queues", self.hub.deadline)).await
    }

    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        self.hub.check_open()?;
        self.unbound(queue, pattern).await
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        self.hub.check_open()?;
        self.hub.info.limits.check_reschedule(to)?;
        let due = match to {
            Reschedule::Cancel => String::new(),
            Reschedule::After(delay) => millis(delay).to_string(),
        };
        let fill = |request: &mut Request| {
            request.arg(id.as_str()).arg(due);
        };
        let reply = self.hub.run("reschedule", &scripts::RESCHEDULE, queue, fill).await?;
        Ok(reply.number() == Some(1))
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        self.hub.check_open()?;
        self.deleted(queue).await
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let end = Instant::now() + self.hub.deadline;
        let meter = self.hub.meter.of(queue);
        loop {
            let reply = self.hub.run("stats", &scripts::STATS, queue, |_| {}).await?;
            let counts = reply.into_list().ok_or_else(|| strange("stats"))?;
            meter.dropped(counts.get(1).map_or(0, Reply::count));
            if let Some(counts) = counts.get(2..).filter(|counts| !counts.is_empty()) {
                return counted(counts, meter.snapshot());
            }
            self.in_time("stats", end)?;
        }
    }

    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        let end = Instant::now() + self.hub.deadline;
        let (mut removed, mut bound) = (0, String::new());
        let what = match what {
            Purge::Waiting => "waiting",
            Purge::Dead => "dead",
        };
        loop {
            let fill = |request: &mut Request| {
                request.arg(what).arg(&bound);
            };
            let reply = self.hub.run("purge", &scripts::PURGE, queue, fill).await?;
            let purged = purged(reply).ok_or_else(|| strange("purge"))?;
            removed += purged.removed;
            self.hub.meter.of(queue).dropped(purged.dropped);
            if !purged.more {
                return Ok(removed);
            }
            bound = purged.bound;
            self.in_time("purge", end)?;
        }
    }

    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage> {
        self.hub.check_open()?;
        page.check()?;
        let start = letters::start(&page)?;
        let end = Instant::now() + self.hub.deadline;
        while self.applied(queue).await? {
            self.in_time("dead letters", end)?;
        }
        letters::list(&self.hub, queue, filter, start, page.limit).await
    }

    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        self.each("redrive", &scripts::REDRIVE, queue, ids).await
    }

    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        self.each("discard", &scripts::DISCARD, queue, ids).await
    }

    async fn health(&self) -> Health {
        let limit = Deadline::new("health", HEALTH);
        let link = &self.hub.link;
        let detail = match timeout(HEALTH, link.call(Request::plain("PING"), limit)).await {
            Ok(Ok(_)) => return Health::good(NAME),
            Ok(Err(error)) => error.to_string(),
            Err(_) => link.trouble().map_or("no answer".into(), |error| error.to_string()),
        };
        Health::bad(NAME, detail)
    }
}

impl RedisQueue {
    /// Applies what is due. Answers whether there may be more.
    async fn applied(&self, queue: &QueueName) -> Result<bool> {
        let reply = self.hub.run("dead letters", &scripts::APPLY, queue, |_| {}).await?;
        let answer = reply.into_list().ok_or_else(|| strange("dead letters"))?;
        self.hub.meter.of(queue).dropped(answer.get(1).map_or(0, Reply::count));
        Ok(answer.first().map_or(0, Reply::count) == 1)
    }

    fn in_time(&self, what: &'static str, end: Instant) -> Result<()> {
        if Instant::now() < end {
            return Ok(());
        }
        Err(Error::timeout(what, self.hub.deadline, Certainty::Unknown))
    }

    /// Runs a script over dead letters, 100 a call.
    async fn each(
        &self,
        what: &'static str,
        script: &'static Script,
        queue: &QueueName,
        ids: &[DeadId],
    ) -> Result<Vec<bool>> {
        let known: Vec<&DeadId> = ids.iter().filter(|id| letters::is_id(id)).collect();
        let mut there = Vec::with_capacity(known.len());
        // Also without ids: an unknown queue is an error.
        for chunk in known.chunks(100).chain(known.is_empty().then_some(&[][..])) {
            let fill = |request: &mut Request| {
                for id in chunk {
                    request.arg(id.as_str());
                }
            };
            let reply = self.hub.run(what, script, queue, fill).await?;
            let answers = reply.into_list().ok_or_else(|| strange(what))?;
            self.hub.meter.of(queue).dropped(answers.get(chunk.len()).map_or(0, Reply::count));
            there.extend(answers.iter().take(chunk.len()).map(|answer| answer.number() == Some(1)));
        }
        let mut there = there.into_iter();
        Ok(ids.iter().map(|id| letters::is_id(id) && there.next() == Some(true)).collect())
    }
}

fn strange(what: &str) -> Error {
    Error::backend(NAME, Certainty::Unknown, format!("an answer to {what} that is none"))
}

fn counted(counts: &[Reply], counters: Counters) -> Result<QueueStats> {
    let number = |index: usize| counts.get(index).and_then(Reply::number).ok_or_else(|| strange("stats"));
    let count = |index| Ok::<_, Error>(u64::try_from(number(index)?).unwrap_or_default());
    Ok(QueueStats {
        ready: count(0)?,
        dead: count(1)?,
        delayed: Some(count(2)?),
        in_flight: Some(count(3)?),
        oldest: u64::try_from(number(4)?).ok().map(Duration::from_millis),
        counters,
    })
}

struct Purged {
    more: bool,
    removed: u64,
    bound: String,
    dropped: u64,
}

fn purged(reply: Reply) -> Option<Purged> {
    let [more, removed, bound, dropped] = <[Reply; 4]>::try_from(reply.into_list()?).ok()?;
    let (more, removed) = (more.number()? == 1, u64::try_from(removed.number()?).ok()?);
    Some(Purged { more, removed, bound: bound.into_text()?, dropped: dropped.count() })
}
