//! What comes back, free of the client's types.

use bytes::Bytes;

/// An answer of the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nothing,
    Number(i64),
    Bytes(Bytes),
    List(Vec<Self>),
}

impl Reply {
    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// A number that counts; what is none is 0.
    pub(crate) fn count(&self) -> u64 {
        self.number().and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
    }

    pub(crate) fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn into_text(self) -> Option<String> {
        String::from_utf8(self.into_bytes()?.into()).ok()
    }

    pub(crate) fn into_list(self) -> Option<Vec<Self>> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}
