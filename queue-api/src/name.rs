//! Names of queues.

use std::fmt;

use crate::Invalid;
use crate::text::{Text, as_text, has_control_character};

/// The longest name of a queue, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 200;

/// The name of a queue: 1 to 200 bytes of UTF-8 without control characters, not beginning with `amq.`.
///
/// Names are compared byte by byte: `é` composed and `é` decomposed are two queues. A queue is not a topic:
/// a queue named `*` or `a.b` is just a queue.
///
/// ```
/// use polyqueue::QueueName;
/// const MAIL: QueueName = QueueName::from_static("mail");
/// assert_eq!(QueueName::new("mail")?, MAIL);
/// # Ok::<_, polyqueue::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Text);

impl QueueName {
    /// A name that is checked now.
    ///
    /// # Errors
    /// [`Invalid`] when it is empty, longer than 200 bytes, has a control character or begins with `amq.`.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Invalid> {
        let name = name.as_ref();
        Text::checked("queue name", name, fault(name)).map(Self)
    }

    /// A name that is checked by the compiler when used in a `const`.
    ///
    /// ```compile_fail,E0080
    /// # use polyqueue::QueueName;
    /// const MAIL: QueueName = QueueName::from_static(""); // is empty: allowed are 1 to 200 bytes
    /// ```
    ///
    /// # Panics
    /// When the name is not valid.
    #[track_caller]
    pub const fn from_static(name: &'static str) -> Self {
        Self(Text::constant(name, fault(name)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// What is wrong with a name; `None` for a good one.
const fn fault(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Some("is empty: allowed are 1 to 200 bytes");
    }
    if bytes.len() > MAX_NAME_BYTES {
        return Some("is too long: allowed are 1 to 200 bytes");
    }
    if bytes.len() >= 4 && bytes[0] == b'a' && bytes[1] == b'm' && bytes[2] == b'q' && bytes[3] == b'.' {
        return Some("begins with `amq.`, which is reserved by brokers");
    }
    if has_control_character(name) {
        return Some("has a control character: none is allowed");
    }
    None
}

as_text!(QueueName, Invalid);

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_unicode_is_a_name() {
        for name in ["a", "é-队列-😀", "a:b", "{x}", "%s", "*", "../..", "amq", &"x".repeat(200)] {
            assert_eq!(QueueName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn bad_names_say_what_is_allowed() {
        for (name, says) in [
            ("", "1 to 200 bytes"),
            (&*"x".repeat(201), "1 to 200 bytes"),
            ("a\nb", "control character"),
            ("\0", "control character"),
            ("a\u{85}b", "control character"),
            ("amq.x", "reserved"),
        ] {
            let error = QueueName::new(name).unwrap_err().to_string();
            assert!(error.contains("queue name") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn static_and_shared_names_are_one_name() {
        let shared = QueueName::new("mail").unwrap();
        assert_eq!(shared, QueueName::from_static("mail"));
        assert!(std::collections::HashSet::from([shared]).contains(&QueueName::from_static("mail")));
    }
}
