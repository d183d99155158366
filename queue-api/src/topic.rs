//! Routing keys and the patterns that queues are bound by: the topic rules of AMQP, in one place for every backend.

use std::fmt;

use crate::Invalid;
use crate::text::{Text, as_text, has_control_character};

/// The longest routing key or pattern, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 200;

/// What a message to a topic is addressed by: words between dots, such as `order.paid.eu`; at most 200 bytes of UTF-8 without
/// control characters. Empty words are words; an empty key has none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutingKey(Text);

impl RoutingKey {
    /// A key that is checked now.
    ///
    /// # Errors
    /// [`Invalid`] when it is longer than 200 bytes or has a control character.
    pub fn new(key: impl AsRef<str>) -> Result<Self, Invalid> {
        let key = key.as_ref();
        Text::checked("routing key", key, fault(key)).map(Self)
    }

    /// A key that is checked by the compiler when used in a `const`.
    ///
    /// ```
    /// use polyqueue::RoutingKey;
    /// const PAID: RoutingKey = RoutingKey::from_static("order.paid");
    /// assert_eq!(RoutingKey::new("order.paid")?, PAID);
    /// # Ok::<_, polyqueue::Error>(())
    /// ```
    ///
    /// ```compile_fail,E0080
    /// # use polyqueue::RoutingKey;
    /// const PAID: RoutingKey = RoutingKey::from_static("order\n"); // has a control character: none is allowed
    /// ```
    ///
    /// # Panics
    /// When the key is not valid.
    #[track_caller]
    pub const fn from_static(key: &'static str) -> Self {
        Self(Text::constant(key, fault(key)))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// What a queue is bound by: a routing key in which `*` stands for exactly one word and `#` for any number of words, none
/// included; at most 200 bytes of UTF-8 without control characters.
///
/// ```
/// use polyqueue::{Pattern, RoutingKey};
/// let pattern = Pattern::new("order.*.#")?;
/// assert!(pattern.matches(&RoutingKey::new("order.paid")?));
/// assert!(pattern.matches(&RoutingKey::new("order.paid.eu.late")?));
/// assert!(!pattern.matches(&RoutingKey::new("order")?));
/// # Ok::<_, polyqueue::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Text);

impl Pattern {
    /// A pattern that is checked now. Every text within the limits is one.
    ///
    /// # Errors
    /// [`Invalid`] when it is longer than 200 bytes or has a control character.
    pub fn new(pattern: impl AsRef<str>) -> Result<Self, Invalid> {
        let pattern = pattern.as_ref();
        Text::checked("pattern", pattern, fault(pattern)).map(Self)
    }

    /// A pattern that is checked by the compiler when used in a `const`.
    ///
    /// ```
    /// use polyqueue::Pattern;
    /// const ORDERS: Pattern = Pattern::from_static("order.#");
    /// assert_eq!(Pattern::new("order.#")?, ORDERS);
    /// # Ok::<_, polyqueue::Error>(())
    /// ```
    ///
    /// ```compile_fail,E0080
    /// # use polyqueue::Pattern;
    /// const ORDERS: Pattern = Pattern::from_static("order.#\n"); // has a control character: none is allowed
    /// ```
    ///
    /// # Panics
    /// When the pattern is not valid.
    #[track_caller]
    pub const fn from_static(pattern: &'static str) -> Self {
        Self(Text::constant(pattern, fault(pattern)))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a message with this key is meant.
    pub fn matches(&self, key: &RoutingKey) -> bool {
        let (pattern, key): (Vec<_>, Vec<_>) =
            (words(self.as_str()).collect(), words(key.as_str()).collect());
        matches(&pattern, &key)
    }
}

pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('.').filter(move |_| !text.is_empty())
}

/// Goes on from the last `#` with one more word in it, whenever what follows does not fit: no pattern takes more than
/// words × words steps.
fn matches(pattern: &[&str], key: &[&str]) -> bool {
    let (mut p, mut k, mut last_hash) = (0, 0, None);
    loop {
        match (pattern.get(p), key.get(k)) {
            (None, None) => return true,
            (Some(&"#"), _) => {
                last_hash = Some((p, k));
                p += 1;
            }
            (Some(&word), Some(&given)) if word == "*" || word == given => {
                p += 1;
                k += 1;
            }
            _ => match last_hash {
                Some((hash, from)) if from < key.len() => {
                    last_hash = Some((hash, from + 1));
                    p = hash + 1;
                    k = from + 1;
                }
                _ => return false,
            },
        }
    }
}

/// What is wrong with a key or a pattern; `None` for a good one.
const fn fault(text: &str) -> Option<&'static str> {
    if text.len() > MAX_KEY_BYTES {
        return Some("is too long: allowed are at most 200 bytes");
    }
    if has_control_character(text) {
        return Some("has a control character: none is allowed");
    }
    None
}

as_text!(RoutingKey, Invalid);
as_text!(Pattern, Invalid);

impl fmt::Debug for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, key: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(&RoutingKey::new(key).unwrap())
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_any_number() {
        for (pattern, key) in [
            ("a.b", "a.b"),
            ("*", "a"),
            ("*.b", ".b"),
            ("#", ""),
            ("#", "a.b.c"),
            ("a.#.b", "a.b"),
            ("a.#.b", "a.b.x.b"),
            ("#.#", ""),
            ("a.*.#", "a.b"),
            ("a..b", "a..b"),
            ("", ""),
        ] {
            assert!(fits(pattern, key), "{pattern:?} {key:?}");
        }
        for (pattern, key) in
            [("*", ""), ("*", "a.b"), ("a", "a."), ("a.*", "a"), ("a.#.b", "a.b.x"), ("a*", "ab"), ("", "a")]
        {
            assert!(!fits(pattern, key), "{pattern:?} {key:?}");
        }
    }

    #[test]
    fn many_hashes_do_not_explode() {
        let (pattern, key) = (["#"; 66].join(".a."), vec!["a"; 60].join("."));
        let pattern: String = pattern.chars().take(MAX_KEY_BYTES).collect();
        assert!(!fits(&pattern, &key));
    }

    #[test]
    fn constants_are_as_what_is_made_at_run_time() {
        const PAID: RoutingKey = RoutingKey::from_static("order.paid");
        const ORDERS: Pattern = Pattern::from_static("order.#");
        assert!(ORDERS.matches(&PAID));
        assert_eq!(std::collections::HashSet::from([PAID]).len(), 1);
        assert_eq!(Pattern::new("order.#").unwrap(), ORDERS);
        assert!(std::panic::catch_unwind(|| RoutingKey::from_static("a\nb")).is_err());
        assert!(std::panic::catch_unwind(|| Pattern::from_static("a\nb")).is_err());
    }

    #[test]
    fn bad_keys_name_the_field_and_the_limit() {
        let long = RoutingKey::new("k".repeat(201)).unwrap_err().to_string();
        assert!(long.contains("routing key") && long.contains("at most 200"), "{long}");
        assert!(Pattern::new("a\nb").unwrap_err().to_string().contains("pattern"));
        assert!(RoutingKey::new("k".repeat(200)).is_ok());
    }
}
