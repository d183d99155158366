//! A classic queue with ten strict priorities, and one before them for what is to come next.

use lapin::types::{AMQPValue, FieldTable};

use crate::queue_type::behavior::QueueType;

/// The priority before all others.
pub(crate) const FOREMOST: u8 = 11;

#[derive(Debug)]
pub(crate) struct Classic;

impl QueueType for Classic {
    fn ready_arguments(&self, dead: &str) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-priority".into(), FOREMOST.into());
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
        arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(dead.into()));
        arguments
    }

    /// Letters may be many, and are seldom read: up to RabbitMQ 3.11 they lie in the node's memory unless it is told otherwise.
    fn dead_arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-mode".into(), AMQPValue::LongString("lazy".into()));
        arguments
    }

    /// It says only *that* a message was returned. One return is one attempt, however many consumers died while they made the
    /// next copy: none of them had handed it out.
    fn attempt(&self, written: u32, redelivered: bool, _: Option<&FieldTable>) -> u32 {
        written.saturating_add(redelivered.into())
    }

    fn republishes_returned(&self) -> bool {
        true
    }

    /// It overlooks what came to a queue that was not empty and stands in front of all others by its priority.
    fn overlooks_expired(&self) -> bool {
        true
    }

    fn acks_per_fence(&self) -> usize {
        128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_is_one_attempt_however_many_died_meanwhile() {
        let attempt = |written, redelivered| Classic.attempt(written, redelivered, None);
        assert_eq!(attempt(1, false), 1);
        assert_eq!(attempt(1, true), 2);
        assert_eq!(attempt(3, true), 4);
        assert_eq!(attempt(u32::MAX, true), u32::MAX);
    }
}
