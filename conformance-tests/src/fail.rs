//! Why a case failed, and where in its source.

use std::cell::RefCell;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a case returns.
pub type Outcome = Result<(), Fail>;

/// Why a case failed. Made by [`ensure!`](crate::ensure), or by `?` on an error, and remembers the line.
#[derive(Clone)]
pub struct Fail {
    what: String,
    at: Option<&'static Location<'static>>,
}

impl Fail {
    /// A failure at the caller's line.
    #[track_caller]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), at: Some(Location::caller()) }
    }

    /// A failure at a line that was noted earlier.
    pub fn at(location: &'static Location<'static>, what: impl Into<String>) -> Self {
        Self { what: what.into(), at: Some(location) }
    }

    /// The text, without the line.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.at {
            Some(at) => write!(f, "\n  at {}:{}", at.file(), at.line()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<polyqueue::Error> for Fail {
    #[track_caller]
    fn from(error: polyqueue::Error) -> Self {
        Self::new(format!("{error} ({:?})", error.certainty()))
    }
}

impl From<polyqueue::Invalid> for Fail {
    #[track_caller]
    fn from(error: polyqueue::Invalid) -> Self {
        Self::from(polyqueue::Error::from(error))
    }
}

impl From<String> for Fail {
    #[track_caller]
    fn from(what: String) -> Self {
        Self::new(what)
    }
}

impl From<&str> for Fail {
    #[track_caller]
    fn from(what: &str) -> Self {
        Self::new(what)
    }
}

thread_local! {
    /// Each case runs on threads of its own, which all share its count.
    static ASSERTIONS: RefCell<Arc<AtomicU64>> = RefCell::default();
}

/// Makes this thread count its assertions in `count`.
pub(crate) fn count_assertions_in(count: &Arc<AtomicU64>) {
    ASSERTIONS.with(|it| *it.borrow_mut() = count.clone());
}

/// One assertion was made by the case that runs on this thread.
#[doc(hidden)]
pub fn asserted() {
    ASSERTIONS.with(|count| count.borrow().fetch_add(1, Relaxed));
}

/// Fails the case unless the condition holds: `ensure!(n == 3, "{n} came")`.
#[macro_export]
macro_rules! ensure {
    ($condition:expr $(,)?) => { $crate::ensure!($condition, "{} does not hold", stringify!($condition)) };
    ($condition:expr, $($text:tt)+) => {{
        $crate::fail::asserted();
        if !$condition {
            return ::core::result::Result::Err($crate::Fail::new(::std::format!($($text)+)));
        }
    }};
}

/// Fails the case unless both are equal: `ensure_eq!(delivery.attempt, 1, "attempt of {id}")`.
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr $(,)?) => {
        $crate::ensure_eq!($left, $right, "{}", stringify!($left))
    };
    ($left:expr, $right:expr, $($what:tt)+) => {{
        $crate::fail::asserted();
        match (&$left, &$right) {
            (left, right) => {
                if !(*left == *right) {
                    let what = ::std::format!($($what)+);
                    let text = ::std::format!("{what}: {left:?} is not {right:?}");
                    return ::core::result::Result::Err($crate::Fail::new(text));
                }
            }
        }
    }};
}
