//! Removing what waits or is dead, as many calls as it takes.

use polyqueue::{Purge, QueueName, Result};
use tokio::time::Instant;

use crate::connection::handle::Handle;
use crate::connection::steps::{in_time, strange};
use crate::scripts;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

pub(crate) async fn purge(handle: &Handle, queue: &QueueName, what: Purge) -> Result<u64> {
    let end = Instant::now() + handle.deadline;
    let (mut removed, mut bound) = (0, String::new());
    let what = match what {
        Purge::Waiting => "waiting",
        Purge::Dead => "dead",
    };
    loop {
        let fill = |request: &mut Request| {
            request.arg(what).arg(&bound);
        };
        let reply = handle.run("purge", &scripts::PURGE, queue, fill).await?;
        let purged = purged(reply).ok_or_else(|| strange("purge"))?;
        removed += purged.removed;
        handle.meter.of(queue).dropped(purged.dropped);
        if !purged.more {
            return Ok(removed);
        }
        bound = purged.bound;
        in_time(handle, "purge", end)?;
    }
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
