//! What a message is known by.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use uuid::Uuid;

use crate::text::{as_text, has_control_character};
use crate::{Error, Result};

/// The longest id of a message, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Identifies a message; kept over retries, dead letters and redrive. A UUID v7, which sorts by time, unless given.
#[derive(Clone)]
pub struct MessageId(Form);

/// Which of both makes no difference. Most ids are as long as a UUID: for these nothing is allocated.
#[derive(Clone)]
enum Form {
    Inline([u8; UUID]),
    Shared(Arc<str>),
}

/// Bytes of a UUID's text.
const UUID: usize = 36;

impl MessageId {
    /// An id of your own.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless it has 1 to 128 bytes and no control characters.
    pub fn new(id: impl AsRef<str>) -> Result<Self> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > MAX_ID_BYTES || has_control_character(id) {
            let allowed =
                format!("{} bytes given, allowed are 1 to 128 without control characters", id.len());
            return Err(Error::invalid("message id", allowed));
        }
        Ok(Self(<[u8; UUID]>::try_from(id.as_bytes()).map_or_else(|_| Form::Shared(id.into()), Form::Inline)))
    }

    /// A fresh UUID v7.
    pub fn random() -> Self {
        let mut text = [0; UUID];
        Uuid::now_v7().as_hyphenated().encode_lower(&mut text);
        Self(Form::Inline(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // It was a text before.
            Form::Inline(text) => str::from_utf8(text).unwrap_or_default(),
            Form::Shared(text) => text,
        }
    }
}

impl PartialEq for MessageId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for MessageId {}

impl PartialOrd for MessageId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MessageId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for MessageId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

as_text!(MessageId, Error);
