//! Cancelling what is delayed, or giving it another time.

use polyqueue::{MessageId, QueueName, Reschedule, Result};

use crate::connection::handle::Handle;
use crate::scripts;
use crate::wire::request::Request;
use crate::wire::time::millis;

pub(crate) async fn reschedule(
    handle: &Handle,
    queue: &QueueName,
    id: &MessageId,
    to: Reschedule,
) -> Result<bool> {
    let due = match to {
        Reschedule::Cancel => String::new(),
        Reschedule::After(delay) => millis(delay).to_string(),
    };
    let fill = |request: &mut Request| {
        request.arg(id.as_str()).arg(due);
    };
    let reply = handle.run("reschedule", &scripts::RESCHEDULE, queue, fill).await?;
    Ok(reply.number() == Some(1))
}
