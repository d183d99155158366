//! Keys under which a queue stores a message only once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::millis::round_up;

/// How long a queue remembers a [`dedup_key`](crate::Message::dedup_key).
///
/// A key is free again when its window ends, and before that when its message is dead, purged or deleted with its queue, or
/// when its publish failed; with [`DedupUntil::Ack`] also when it is acknowledged. Retry and release keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dedup {
    /// How long, from the publish: whole milliseconds from 1 ms to 365 days.
    #[serde(with = "crate::millis", rename = "window_ms")]
    pub window: Duration,
    /// What ends it sooner.
    #[serde(default)]
    pub until: DedupUntil,
}

impl Dedup {
    /// For the whole window, also after the acknowledgement. It is rounded up to whole milliseconds.
    pub fn window(window: Duration) -> Self {
        Self { window: round_up(window), until: DedupUntil::Window }
    }

    /// Until the message is acknowledged, at most for the window, which is rounded up to whole milliseconds.
    pub fn until_ack(window: Duration) -> Self {
        Self { window: round_up(window), until: DedupUntil::Ack }
    }
}

/// What ends the memory of a key. Exhaustive: a new end must break backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DedupUntil {
    /// The window's end.
    #[default]
    Window,
    /// The acknowledgement, or the window's end.
    Ack,
}
