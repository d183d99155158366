//! What a handler says when it did not succeed, and the text that is kept of an error.

use std::error::Error as StdError;
use std::time::Duration;

use crate::BoxError;
use crate::causes::with_causes;
use crate::parts::cut_error;
use crate::permanent::is_permanent;

/// What a handler says when it did not succeed. `?` on any error means [`Failure::Retry`], on one that is or wraps a
/// [`Permanent`](crate::Permanent) it means [`Failure::Fatal`].
///
/// It is not itself an error, so that `?` can turn every error into one. It does not take a `Box<dyn Error>` that is not
/// `Send + Sync`, nor an error type that does not implement [`std::error::Error`].
///
/// ```
/// use std::time::Duration;
/// use polyqueue::{Bytes, Failure, Job};
///
/// async fn charge(job: Job<Bytes>) -> Result<(), Failure> {
///     let amount: i64 = std::str::from_utf8(&job.payload)?.parse()?; // any error by `?`: again later
///     match amount {
///         0 => Err(Failure::Snooze(Duration::from_secs(60))), // not now; no attempt is counted
///         429 => Err(Failure::retry_after(Duration::from_secs(5), "asked to slow down")),
///         negative if negative < 0 => Err(Failure::fatal("nobody owes less than nothing")), // never again
///         _ => Ok(()),
///     }
/// }
/// # use polyqueue::QueueName;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let said = |text: &'static str| charge(Job::of(QueueName::from_static("q"), Bytes::from(text)));
/// # assert!(matches!(said("x").await, Err(Failure::Retry { after: None, .. })));
/// # assert!(matches!(said("0").await, Err(Failure::Snooze(_))));
/// # assert!(matches!(said("429").await, Err(Failure::Retry { after: Some(_), .. })));
/// # assert!(matches!(said("-1").await, Err(Failure::Fatal { .. })));
/// # assert!(said("7").await.is_ok());
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// Try again, after the policy's wait or after the one given.
    Retry {
        /// Kept as the message's last error.
        error: String,
        /// Overrides the policy's wait.
        after: Option<Duration>,
    },
    /// Never try again: a dead letter, `rejected`.
    Fatal {
        /// Kept in the dead letter.
        error: String,
    },
    /// The payload cannot be read: a dead letter, `undecodable`.
    Undecodable {
        /// Kept in the dead letter.
        error: String,
    },
    /// Not now: hand it out again after this long, without counting an attempt.
    Snooze(Duration),
}

impl Failure {
    /// Never try again.
    pub fn fatal(error: impl Into<BoxError>) -> Self {
        Self::Fatal { error: text(&*error.into()) }
    }

    /// Try again after `after`, whatever the policy says.
    pub fn retry_after(after: Duration, error: impl Into<BoxError>) -> Self {
        Self::Retry { error: text(&*error.into()), after: Some(after) }
    }
}

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let text = text(&*error);
        if is_permanent(&*error) {
            Self::Fatal { error: text }
        } else {
            Self::Retry { error: text, after: None }
        }
    }
}

/// The error and its causes in one line, each said once, cut to 4 KiB.
fn text(error: &(dyn StdError + 'static)) -> String {
    cut_error(with_causes(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_by_question_mark_is_a_retry() {
        fn handler() -> Result<(), Failure> {
            Err(std::io::Error::other("mail server down"))?
        }
        assert_eq!(handler(), Err(Failure::Retry { error: "mail server down".into(), after: None }));
    }
}
