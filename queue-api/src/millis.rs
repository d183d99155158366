//! A duration as whole milliseconds: the same everywhere, and after a way through JSON.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, ser};

const ONE: Duration = Duration::from_millis(1);

/// What is too long to be rounded is too long for any queue.
pub(crate) const fn round_up(time: Duration) -> Duration {
    match time.subsec_nanos() % ONE.subsec_nanos() {
        0 => time,
        over => time.saturating_add(Duration::from_nanos((ONE.subsec_nanos() - over) as u64)),
    }
}

pub(crate) fn are_whole(time: Duration) -> bool {
    time.subsec_nanos().is_multiple_of(ONE.subsec_nanos())
}

pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match u64::try_from(time.as_millis()) {
        Ok(millis) if are_whole(*time) => serializer.serialize_u64(millis),
        _ => Err(ser::Error::custom(format!("{time:?} given, allowed are whole milliseconds to 365 days"))),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// A duration as whole milliseconds, where it may be missing.
pub(crate) mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}
