//! Names of queues.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::Invalid;

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
#[derive(Clone)]
pub struct QueueName(Repr);

#[derive(Clone)]
enum Repr {
    Static(&'static str),
    Shared(Arc<str>),
}

impl QueueName {
    /// A name that is checked now.
    ///
    /// # Errors
    /// [`Invalid`] when it is empty, longer than 200 bytes, has a control character or begins with `amq.`.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Invalid> {
        let name = name.as_ref();
        match fault(name) {
            Some(fault) => Err(Invalid::new("queue name", format!("{} {fault}", shown(name)))),
            None => Ok(Self(Repr::Shared(name.into()))),
        }
    }

    /// A name that is checked by the compiler when used in a `const`.
    ///
    /// # Panics
    /// When the name is not valid.
    pub const fn from_static(name: &'static str) -> Self {
        if fault(name).is_some() {
            panic!("not a valid queue name");
        }
        Self(Repr::Static(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Static(name) => name,
            Repr::Shared(name) => name,
        }
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
    let mut i = 0;
    while i < bytes.len() {
        // U+0080 to U+009F, the second block of control characters, are C2 80 to C2 9F in UTF-8.
        let second_block = bytes[i] == 0xC2 && i + 1 < bytes.len() && bytes[i + 1] < 0xA0;
        if bytes[i] < 0x20 || bytes[i] == 0x7F || second_block {
            return Some("has a control character: none is allowed");
        }
        i += 1;
    }
    None
}

/// The name for an error text: quoted, escaped and cut.
fn shown(name: &str) -> String {
    let mut cut: String = name.chars().take(60).collect();
    if cut.len() < name.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

impl PartialEq for QueueName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for QueueName {}

impl PartialOrd for QueueName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueueName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for QueueName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for QueueName {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        Self::new(name)
    }
}

impl<'de> serde::Deserialize<'de> for QueueName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(name).map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for QueueName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
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
