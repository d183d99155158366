//! Which kind of broker queue a queue is made of.

use crate::queue_type::behavior::QueueType;
use crate::queue_type::classic::Classic;

/// What the URL asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Requested {
    /// The best that there is.
    #[default]
    Auto,
    /// Classic queues, whatever the broker can do.
    Classic,
}

/// The kind for new and old queues. Quorum queues on RabbitMQ 4.3 are meant to be the second; the client library does not tell
/// the broker's version yet, so it has no say here.
pub(crate) fn decide(requested: Requested) -> &'static dyn QueueType {
    match requested {
        Requested::Auto | Requested::Classic => &Classic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered_by_classic_queues() {
        for requested in [Requested::Auto, Requested::Classic] {
            assert_eq!(format!("{:?}", decide(requested)), "Classic", "{requested:?}");
        }
    }
}
