//! Questions to one channel.

use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

/// Takes up to `max` messages that are ready now: one, which says how many more there are, and then those, pipelined.
pub(crate) async fn get(channel: Channel, queue: String, max: usize) -> lapin::Result<Vec<Delivery>> {
    let one = || channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
    let Some(first) = one().await? else { return Ok(Vec::new()) };
    let more = (first.message_count as usize).min(max.saturating_sub(1));
    let mut got = vec![first.delivery];
    let rest = futures_util::future::try_join_all((0..more).map(|_| one())).await?;
    got.extend(rest.into_iter().flatten().map(|message| message.delivery));
    Ok(got)
}

/// How many messages are ready. The queue answers after it has dealt with everything that was sent before on this channel.
pub(crate) async fn barrier(channel: Channel, queue: String) -> lapin::Result<u64> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    Ok(found.message_count().into())
}
