//! What a message of a drill wants of whoever receives it.

use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::{Message, Verdict};
use serde::{Deserialize, Serialize};

use crate::Rng;

/// The header in which a message says it.
const HEADER: &str = "drill";

/// What a message wants of whoever receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Task {
    Ack,
    /// To be retried so often, after so many milliseconds, then acked.
    Retry {
        times: u32,
        after: u64,
    },
    /// To be left to the end of its lease at its first hand-out, then acked.
    Abandon,
    Reject,
    /// To be retried until it dies.
    Exhaust {
        after: u64,
    },
}

/// Attempts of a message that is to die of them.
const MOST: NonZeroU32 = NonZeroU32::new(3).unwrap();

impl Task {
    pub(super) fn any(rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..78 => Self::Ack,
            78..88 => Self::Retry { times: 1 + rng.below(2) as u32, after: rng.below(1_000) },
            88..91 => Self::Abandon,
            91..96 => Self::Reject,
            _ => Self::Exhaust { after: rng.below(500) },
        }
    }

    /// A message that says so.
    pub(super) fn message(self, payload: Vec<u8>, delay: Duration) -> Message {
        let text = serde_json::to_string(&self).unwrap_or_default();
        let message = Message::new(payload).with_header(HEADER, text).with_delay(delay);
        match self {
            Self::Exhaust { .. } => message.with_max_attempts(MOST),
            _ => message,
        }
    }

    /// What a message says; `None` when it is none of ours.
    pub(super) fn of(message: &Message) -> Option<Self> {
        serde_json::from_str(message.headers().get(HEADER)?).ok()
    }

    /// The verdict at this attempt; `None`: none at all.
    pub(super) fn verdict(self, attempt: u32) -> Option<Verdict> {
        let retry = |after| Verdict::retry(Duration::from_millis(after), "as the drill wants it");
        match self {
            Self::Retry { times, after } if attempt <= times => Some(retry(after)),
            Self::Exhaust { after } => Some(retry(after)),
            Self::Reject => Some(Verdict::reject("as the drill wants it")),
            Self::Abandon if attempt == 1 => None,
            Self::Ack | Self::Retry { .. } | Self::Abandon => Some(Verdict::Ack),
        }
    }
}
