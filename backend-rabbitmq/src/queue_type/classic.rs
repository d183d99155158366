//! The kind of broker queue behind a queue, and what differs between kinds.

use lapin::types::{AMQPValue, FieldTable};

/// What kind of broker queue holds our messages. One today; quorum queues on RabbitMQ 4.3 are meant to be the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum QueueType {
    /// A classic queue with ten strict priorities.
    #[default]
    Classic,
}

impl QueueType {
    /// Arguments of a queue that holds ready messages; the broker files what expires there as dead letters.
    pub(crate) fn ready_arguments(self, dead: &str) -> FieldTable {
        match self {
            Self::Classic => {
                let mut arguments = FieldTable::default();
                arguments.insert("x-max-priority".into(), 10_u8.into());
                arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
                arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(dead.into()));
                arguments
            }
        }
    }

    /// Arguments of a queue that holds dead letters: in order of arrival, hence without priorities.
    pub(crate) fn dead_arguments(self) -> FieldTable {
        match self {
            Self::Classic => FieldTable::default(),
        }
    }

    /// Which attempt a delivery is, `header` being the one that its copy was made for.
    ///
    /// A classic queue says only *that* a message was returned. One return is one attempt, however many consumers died
    /// while they made the next copy: none of them had handed it out.
    pub(crate) fn attempt(self, header: u32, redelivered: bool) -> u32 {
        match self {
            Self::Classic => header.saturating_add(redelivered.into()),
        }
    }

    /// How many ack frames one fence vouches for.
    pub(crate) fn acks_per_fence(self) -> usize {
        match self {
            Self::Classic => 128,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_is_one_attempt_however_many_died_meanwhile() {
        assert_eq!(QueueType::Classic.attempt(1, false), 1);
        assert_eq!(QueueType::Classic.attempt(1, true), 2);
        assert_eq!(QueueType::Classic.attempt(3, true), 4);
        assert_eq!(QueueType::Classic.attempt(u32::MAX, true), u32::MAX);
    }
}
