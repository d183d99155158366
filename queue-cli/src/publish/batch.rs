//! Messages on their way: the queue they go to, a batch of them, and what it came to.

use std::time::Duration;

use polyqueue::{Dedup, Destination, Message, Published, Queue, QueueSpec};

use crate::args::Publish;
use crate::exit::{Exit, Result};
use crate::{broker, stderr, stdout};

/// How many messages one call carries at most, and how many bytes of payload.
pub(super) const BATCH: usize = 256;
pub(super) const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a queue remembers dedup keys when nobody says.
const DEDUP_WINDOW: Duration = Duration::from_secs(5 * 60);

/// A queue that is declared for a message with a dedup key remembers keys.
pub(super) async fn ensure_declared(
    queue: &dyn Queue,
    to: &Destination,
    args: &Publish,
    keyed: bool,
) -> Result<()> {
    let Destination::Queue(name) = to else { return Ok(()) };
    let spec = QueueSpec::new(name.clone());
    let keyed = keyed || args.envelope.dedup_key.is_some();
    let window = args.dedup_window.or(keyed.then_some(DEDUP_WINDOW));
    let spec = match window {
        Some(window) => spec.dedup(Dedup::window(window)),
        None => spec,
    };
    broker::ensure_declared(queue, spec).await
}

/// Publishes a batch, prints the ids, names the lines that failed and answers how many did.
pub(super) async fn send(
    queue: &dyn Queue,
    to: &Destination,
    batch: Vec<(Option<u64>, Message)>,
) -> Result<u64> {
    let (numbers, messages): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let answers = queue.publish(to, messages).await?;
    let (mut ids, mut failed, mut refused) = (Vec::new(), 0, None);
    for (number, answer) in numbers.into_iter().zip(answers) {
        match (answer, number) {
            (Ok(Published { id, duplicate_of, .. }), _) => {
                if duplicate_of.is_some() {
                    stderr::line("polyqueue: a duplicate, not stored: that id has its key");
                }
                ids.push(duplicate_of.unwrap_or(id));
            }
            (Err(error), Some(number)) => {
                stderr::line(format_args!("polyqueue: line {number}: {error}"));
                failed += 1;
            }
            (Err(error), None) => refused = refused.or(Some(error)),
        }
    }
    stdout::lines(ids)?;
    refused.map_or(Ok(failed), |error| Err(error.into()))
}

pub(super) fn verdict(failed: u64) -> Result<()> {
    match failed {
        0 => Ok(()),
        1 => Err(Exit::Failed("1 line was not published; see above".into())),
        n => Err(Exit::Failed(format!("{n} lines were not published; see above"))),
    }
}
