//! Values as people write them.

use std::time::Duration;

use polyqueue::{Backoff, Priority};

pub(crate) fn priority(text: &str) -> Result<Priority, String> {
    let level: i64 = text.parse().map_err(|_| format!("{text:?} is no number; allowed are 1 to 10"))?;
    Priority::new(level).map_err(|error| error.to_string())
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 2s, 150ms or 1h 30m"))
}

pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.into(), value.into()))
}

pub(crate) fn backoff(text: &str) -> Result<Backoff, String> {
    let (first, max) = text.split_once("..").ok_or("write FIRST..MAX, as 1s..30s")?;
    Backoff::new(duration(first)?, 2.0, duration(max)?).map_err(|error| error.to_string())
}
