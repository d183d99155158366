//! The operator's half: listing, counting, purging, dead letters, health.

use std::time::Duration;

use polyqueue::{
    Admin, Certainty, Counters, DeadFilter, DeadId, DeadPage, Error, Health, MessageId, Page, Pattern, Purge,
    QueueName, QueueSpec, QueueStats, Reschedule, Result, async_trait,
};
use tokio::time::{Instant, timeout};

use crate::link::{Limit, Reply, Request, Script};
use crate::queue::RedisQueue;
use crate::{NAME, keys, letters, scripts};

/// How long a look at the server's health may take.
const HEALTH: Duration = Duration::from_millis(900);

#[async_trait]
impl Admin for RedisQueue {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        let mut request = Request::plain("HKEYS");
        request.arg(keys::catalogue(&self.hub.namespace));
        let names = self.hub.call("queues", request).await?.into_list().unwrap_or_default();
        let name = |reply: Reply| QueueName::new(reply.into_text()?).ok();
        let mut names: Vec<QueueName> = names.into_iter().filter_map(name).collect();
        names.sort();
        Ok(names.into_iter().map(QueueSpec::new).collect())
    }

    async fn unbind(&self, _: &QueueName, _: &Pattern) -> Result<()> {
        Err(crate::queue::not_yet("topics"))
    }

    async fn reschedule(&self, _: &QueueName, _: &MessageId, _: Reschedule) -> Result<bool> {
        Err(crate::queue::not_yet("rescheduling"))
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        let reply = self.hub.call("delete", self.catalogued(&scripts::DELETE, queue)).await?;
        self.hub.forget(queue);
        if reply == Reply::Number(0) { Err(Error::not_found(queue.clone())) } else { Ok(()) }
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let end = Instant::now() + self.hub.deadline;
        loop {
            let reply = self.hub.run("stats", &scripts::STATS, queue, |_| {}).await?;
            match reply.into_list() {
                Some(counts) => return counted(counts, self.hub.meter.of(queue).snapshot()),
                None => self.in_time("stats", end)?,
            }
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
        while self.hub.run("dead letters", &scripts::APPLY, queue, |_| {}).await?.number() == Some(1) {
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
        let limit = Limit::new("health", HEALTH);
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
            there.extend(answers.iter().map(|answer| answer.number() == Some(1)));
        }
        let mut there = there.into_iter();
        Ok(ids.iter().map(|id| letters::is_id(id) && there.next() == Some(true)).collect())
    }
}

fn strange(what: &str) -> Error {
    Error::backend(NAME, Certainty::Unknown, format!("an answer to {what} that is none"))
}

fn counted(counts: Vec<Reply>, counters: Counters) -> Result<QueueStats> {
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
}

fn purged(reply: Reply) -> Option<Purged> {
    let [more, removed, bound] = <[Reply; 3]>::try_from(reply.into_list()?).ok()?;
    let removed = u64::try_from(removed.number()?).ok()?;
    Some(Purged { more: more.number()? == 1, removed, bound: bound.into_text()? })
}
