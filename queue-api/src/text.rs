//! What every checked text is made of, and how it is shown, parsed and serialized: as the text that it is.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::Invalid;

/// A text that lies in the program or is shared; which of both makes no difference.
#[derive(Clone)]
pub(crate) enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Text {
    /// `text`, unless it has a fault.
    pub(crate) fn checked(
        field: &'static str,
        text: &str,
        fault: Option<&'static str>,
    ) -> Result<Self, Invalid> {
        match fault {
            Some(fault) => Err(Invalid::new(field, format!("{} {fault}", shown(text)))),
            None => Ok(Self::Shared(text.into())),
        }
    }

    /// `text`, unless it has a fault: in a `const` the compiler then refuses it.
    #[track_caller]
    pub(crate) const fn constant(text: &'static str, fault: Option<&'static str>) -> Self {
        match fault {
            Some(fault) => panic!("{}", fault),
            None => Self::Static(text),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// The text for an error: quoted, escaped and cut.
fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

/// As [`char::is_control`] finds them, for the compiler.
pub(crate) const fn has_control_character(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        // U+0080 to U+009F, the second block of control characters, are C2 80 to C2 9F in UTF-8.
        let second_block = bytes[i] == 0xC2 && i + 1 < bytes.len() && bytes[i + 1] < 0xA0;
        if bytes[i] < 0x20 || bytes[i] == 0x7F || second_block {
            return true;
        }
        i += 1;
    }
    false
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Shows a type by its `as_str`; parses and deserializes it by its `new`, so that no other way leads past the check.
macro_rules! as_text {
    ($type:ident, $error:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $error;

            fn from_str(text: &str) -> std::result::Result<Self, $error> {
                Self::new(text)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> std::result::Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use as_text;

#[cfg(test)]
mod tests {
    use serde::{Serialize, de::DeserializeOwned};

    use super::*;
    use crate::{DeadId, DedupKey, MessageId, Pattern, Priority, QueueName, ReplyAddress, RoutingKey};

    fn comes_back<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T, json: &str) {
        assert_eq!(serde_json::to_string(&value).unwrap(), json);
        assert_eq!(serde_json::from_str::<T>(json).unwrap(), value);
    }

    #[test]
    fn values_come_back_from_json() {
        comes_back(QueueName::new("mail").unwrap(), r#""mail""#);
        comes_back(RoutingKey::new("order.\"é\"").unwrap(), r#""order.\"é\"""#);
        comes_back(Pattern::new("order.#").unwrap(), r#""order.#""#);
        comes_back(MessageId::new("m-1").unwrap(), r#""m-1""#);
        comes_back(ReplyAddress::new("inbox").unwrap(), r#""inbox""#);
        comes_back(DeadId::new("17"), r#""17""#);
        comes_back(Priority::HIGHEST, "10");
        let key = DedupKey { namespace: "n".into(), queue: QueueName::new("q").unwrap(), key: "k".into() };
        comes_back(key, r#"{"namespace":"n","queue":"q","key":"k"}"#);
    }

    fn refused<T: DeserializeOwned + fmt::Debug>(json: &str, reason: impl fmt::Display) {
        let error = serde_json::from_str::<T>(json).unwrap_err().to_string();
        assert!(error.starts_with(&reason.to_string()), "{error}");
    }

    #[test]
    fn a_bad_value_is_refused_for_the_reason_that_new_gives() {
        refused::<QueueName>(r#""amq.x""#, QueueName::new("amq.x").unwrap_err());
        refused::<RoutingKey>(r#""a\nb""#, RoutingKey::new("a\nb").unwrap_err());
        refused::<Pattern>(r#""a\nb""#, Pattern::new("a\nb").unwrap_err());
        refused::<MessageId>(r#""""#, MessageId::new("").unwrap_err());
        refused::<ReplyAddress>(r#""""#, ReplyAddress::new("").unwrap_err());
        for level in [0, 11, -1, 300] {
            refused::<Priority>(&level.to_string(), Priority::new(level).unwrap_err());
        }
        refused::<DeadId>(r#""""#, r#"invalid dead letter id: "" is empty"#);
        refused::<DeadId>(r#""\u0000""#, r#"invalid dead letter id: "\0" has a control character"#);
        let namespace = crate::Limits::default().check_namespace("NOT ONE").unwrap_err();
        refused::<DedupKey>(r#"{"namespace":"NOT ONE","queue":"q","key":"k"}"#, namespace);
        refused::<DedupKey>(r#"{"namespace":"n","queue":"q","key":""}"#, "invalid dedup key: is empty");
        refused::<DedupKey>(
            r#"{"namespace":"n","queue":"q","key":"\n"}"#,
            "invalid dedup key: has a control",
        );
        refused::<DedupKey>(r#"["n","q","k"]"#, "invalid type: sequence");
        refused::<DedupKey>(r#"{"namespace":"n","queue":"","key":"k"}"#, QueueName::new("").unwrap_err());
        refused::<DedupKey>(r#"{"namespace":"n","queue":"q","key":"k","extra":1}"#, "unknown field `extra`");
    }

    #[test]
    fn control_characters_are_those_of_unicode() {
        for character in (0..0x400).filter_map(char::from_u32) {
            let text = format!("a{character}");
            assert_eq!(has_control_character(&text), character.is_control(), "{text:?}");
        }
    }
}
