//! Errors that no further attempt can change.

use std::error::Error as StdError;
use std::fmt;

/// An error that no further attempt can change: a handler from which it comes by `?` is not tried again, and the message
/// becomes a dead letter, `rejected`, at once. It says what the error inside says.
///
/// It is found however deep it lies among the causes of what the handler returns: under an error of your own, under
/// anyhow's or eyre's `?`, `context` and `wrap_err`. So code that knows nothing of queues can say it. The one place where it
/// is not found is as such a context itself, `.context(Permanent::new(…))`: anyhow and eyre show a context to nobody but by its
/// text. Make the error permanent first, and give it a context then.
///
/// ```
/// use polyqueue::{Bytes, Failure, Job, Permanent, QueueName};
///
/// fn amount(text: &str) -> anyhow::Result<u32> {
///     use anyhow::Context;
///     text.parse().map_err(Permanent::new).context("no amount")
/// }
///
/// async fn charge(job: Job<Bytes>) -> Result<(), Failure> {
///     println!("{} EUR", amount(std::str::from_utf8(&job.payload)?)?);
///     Ok(())
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
///
/// let said = charge(Job::of(QueueName::from_static("q"), Bytes::from("much"))).await;
/// assert_eq!(said, Err(Failure::Fatal { error: "no amount: invalid digit found in string".into() }));
/// # }
/// ```
#[derive(Debug)]
pub struct Permanent(Marker);

impl Permanent {
    /// Says of `error` that trying again is no use.
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Marker(error.into()))
    }

    /// The error inside.
    pub fn get_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0.0
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.0, f)
    }
}

impl StdError for Permanent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

/// What a mark says where no cause is left that it could say.
const NO_CAUSE: &str = "no further attempt can change it";

/// What is looked for: a cause of its own, because the outermost error may stand in a box that hides its type. The outermost
/// says what the error inside says; this stands for the error's cause, and says that, so that each is said once.
#[derive(Debug)]
struct Marker(Box<dyn StdError + Send + Sync>);

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => f.write_str(NO_CAUSE),
        }
    }
}

impl StdError for Marker {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()?.source()
    }
}

impl Marker {
    /// Whether it stands for no cause: nor does the mark in another [`Permanent`] inside.
    fn is_bare(&self) -> bool {
        self.0.source().is_none_or(is_bare_mark)
    }
}

/// Whether this is a mark that says nothing of the error.
pub(crate) fn is_bare_mark(cause: &(dyn StdError + 'static)) -> bool {
    cause.downcast_ref::<Marker>().is_some_and(Marker::is_bare)
}

/// Whether a [`Permanent`] is among the causes.
pub(crate) fn is_permanent(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |&cause| cause.source()).any(|cause| cause.is::<Marker>())
}
