//! Questions to one channel.

use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

/// Takes up to `max` messages that are ready now: one, which says how many more there are, then those, pipelined, and so on
/// until the last says that there are none. Answers also how many more were ready when the last was taken.
pub(crate) async fn get(
    channel: Channel,
    queue: String,
    max: usize,
) -> lapin::Result<(Vec<Delivery>, usize)> {
    let mut got = Vec::new();
    let mut more = 1;
    while more > 0 && got.len() < max {
        let wanted = more.min(max - got.len());
        let asked = (0..wanted).map(|_| channel.basic_get(queue.as_str().into(), BasicGetOptions::default()));
        more = 0;
        for message in futures_util::future::try_join_all(asked).await? {
            more = message.as_ref().map_or(0, |message| message.message_count as usize);
            got.extend(message.map(|message| message.delivery));
        }
    }
    Ok((got, more))
}

/// How many messages are ready. The queue answers after it has dealt with everything that was sent before on this channel.
pub(crate) async fn fence(channel: Channel, queue: String) -> lapin::Result<u64> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    Ok(found.message_count().into())
}
