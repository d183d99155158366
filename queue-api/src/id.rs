//! What a message is known by.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::text::{as_text, has_control_character};
use crate::{Error, Result};

/// The longest id of a message, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Identifies a message; kept over retries, dead letters and redrive. A UUID v7, which sorts by time, unless given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Arc<str>);

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
        Ok(Self(id.into()))
    }

    /// A fresh UUID v7.
    pub fn random() -> Self {
        let mut buffer = Uuid::encode_buffer();
        Self(Arc::from(&*Uuid::now_v7().as_hyphenated().encode_lower(&mut buffer)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(MessageId, Error);
