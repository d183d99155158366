//! Messages of kinds that no handler of this worker knows.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{Failure, Message};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What a [`Worker`](crate::Worker) does with a message of a kind that none of its handlers knows, where there is no
/// [`Worker::on_others`](crate::Worker::on_others).
///
/// ```
/// # use polyqueue::*;
/// # fn worker(worker: Worker) -> Worker {
/// worker.unknown(Unknown::DeadLetter) // whoever reads this queue knows all that is in it
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unknown {
    /// Gives it back without counting an attempt, for somebody who knows it: another service on the queue, or the next
    /// version of this one. It is handed out again after a quarter of its age, 1 s at least and 60 s at most, until it is as
    /// old as [`Worker::unknown_for`](crate::Worker::unknown_for) says; then it becomes a dead letter, `rejected`.
    ///
    /// Its age is counted from its [publish time](Message::published_at), which is by the sender's clock: where that is wrong, it
    /// waits and dies too early or too late. A message that was delayed, redriven, or lay in the queue for longer than that
    /// dies at the first worker that does not know it. One without a publish time is tried again as by [`Unknown::Retry`].
    #[default]
    Release,
    /// A failed attempt, by the worker's [policy](crate::Worker::retry).
    Retry,
    /// A dead letter, `rejected`, at once.
    DeadLetter,
}

/// What becomes of kinds without a handler.
#[derive(Clone, Copy)]
pub(super) struct UnknownKinds {
    pub(super) choice: Unknown,
    pub(super) max_age: Duration,
}

impl Default for UnknownKinds {
    fn default() -> Self {
        Self { choice: Unknown::default(), max_age: Duration::from_secs(60 * 60) }
    }
}

impl UnknownKinds {
    pub(super) fn failure(&self, message: &Message, now: DateTime<Utc>) -> Failure {
        let (kind, max_age) = (message.kind(), self.max_age);
        let unknown = format!("no handler for kind {kind:?}");
        match (self.choice, message.published_at()) {
            (Unknown::DeadLetter, _) => Failure::Fatal { error: unknown },
            (Unknown::Retry, _) | (Unknown::Release, None) => Failure::from(unknown),
            (Unknown::Release, Some(published)) => {
                // A publish time that is to come is now.
                let age = (now - published).to_std().unwrap_or_default();
                if age >= max_age {
                    return Failure::Fatal { error: format!("{unknown}: none knew it for {max_age:?}") };
                }
                Failure::Snooze((age / 4).clamp(SHORTEST, LONGEST))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(age: Duration, max_age: Duration) -> Failure {
        let now = DateTime::UNIX_EPOCH + Duration::from_secs(100 * 24 * 3600);
        let message = Message::new("").with_kind("invoice").with_published_at(now - age);
        UnknownKinds { max_age, ..UnknownKinds::default() }.failure(&message, now)
    }

    #[test]
    fn it_waits_a_quarter_of_its_age_and_dies_at_an_hour() {
        let hour = Duration::from_secs(3600);
        let waits = [(0, 1), (4, 1), (8, 2), (100, 25), (240, 60), (3599, 60)];
        for (age, wait) in waits {
            assert_eq!(
                at(Duration::from_secs(age), hour),
                Failure::Snooze(Duration::from_secs(wait)),
                "{age}"
            );
        }
        let error = r#"no handler for kind "invoice": none knew it for 3600s"#.to_owned();
        assert_eq!(at(hour, hour), Failure::Fatal { error });
        assert_eq!(at(50 * hour, Duration::MAX), Failure::Snooze(LONGEST));
    }

    #[test]
    fn a_clock_that_is_ahead_counts_as_now() {
        let (now, ahead) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + LONGEST);
        let message = Message::new("").with_published_at(ahead);
        assert_eq!(UnknownKinds::default().failure(&message, now), Failure::Snooze(SHORTEST));
    }

    #[test]
    fn without_a_publish_time_it_is_tried_again() {
        let failure = UnknownKinds::default().failure(&Message::new(""), DateTime::UNIX_EPOCH);
        assert_eq!(failure, Failure::from(r#"no handler for kind """#));
    }
}
