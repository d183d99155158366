//! Redriving and discarding: a script over many dead letters.

use polyqueue::{DeadId, QueueName, Result};

use crate::connection::handle::Handle;
use crate::connection::steps::strange;
use crate::dead::listing;
use crate::wire::reply::Reply;
use crate::wire::request::{Request, Script};

/// Runs a script over dead letters, 100 a call.
pub(crate) async fn each(
    handle: &Handle,
    what: &'static str,
    script: &'static Script,
    queue: &QueueName,
    ids: &[DeadId],
) -> Result<Vec<bool>> {
    let known: Vec<&DeadId> = ids.iter().filter(|id| listing::is_id(id)).collect();
    let mut there = Vec::with_capacity(known.len());
    // Also without ids: an unknown queue is an error.
    for chunk in known.chunks(100).chain(known.is_empty().then_some(&[][..])) {
        let fill = |request: &mut Request| {
            for id in chunk {
                request.arg(id.as_str());
            }
        };
        let reply = handle.run(what, script, queue, fill).await?;
        let answers = reply.into_list().ok_or_else(|| strange(what))?;
        handle.meter.of(queue).dropped(answers.get(chunk.len()).map_or(0, Reply::count));
        there.extend(answers.iter().take(chunk.len()).map(|answer| answer.number() == Some(1)));
    }
    let mut there = there.into_iter();
    Ok(ids.iter().map(|id| listing::is_id(id) && there.next() == Some(true)).collect())
}
