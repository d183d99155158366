//! Whose turn it is to make a queue again, and what became of the last.

use polyqueue::{QueueName, Result};
use tokio::time::Instant;

/// How many queues are looked for at a time.
const AT_ONCE: usize = 32;

/// The last revival among some queues, by when it began; one at a time.
pub(crate) type Last = tokio::sync::Mutex<Option<(QueueName, Instant, Result<bool>)>>;

/// Who makes again what was lost: one call at a time for a queue.
#[derive(Debug, Default)]
pub(crate) struct Revivals([Last; AT_ONCE]);

impl Revivals {
    /// The place of this queue.
    pub(crate) fn of(&self, queue: &QueueName) -> &Last {
        let sum =
            queue.as_str().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        &self.0[sum % AT_ONCE]
    }
}
