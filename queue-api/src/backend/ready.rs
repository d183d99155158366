//! When a message that names a time becomes ready.

use chrono::{DateTime, Utc};

use crate::{Destination, Limits, Message, Result};

/// Turns the times of [`Message::not_before`] into delays from `now`, the handle's wall clock, as the first step of a publish,
/// and checks what that changed.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a delay that is too long, not less than the ttl, or sent to an inbox.
pub fn begin_delays(
    limits: &Limits,
    to: &Destination,
    batch: &mut [Message],
    now: DateTime<Utc>,
) -> Result<()> {
    let mut changed = false;
    for message in &mut *batch {
        changed |= message.begin_delay(now);
    }
    if changed { limits.check(to, batch) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::QueueName;
    use chrono::TimeDelta;

    fn begin(message: Message, now: DateTime<Utc>) -> Result<Message> {
        let mut batch = [Message::new("plain"), message];
        begin_delays(&Limits::default(), &QueueName::from_static("q").into(), &mut batch, now)?;
        let [_, message] = batch;
        Ok(message)
    }

    #[test]
    fn the_later_of_time_and_delay_wins_and_the_past_is_now() {
        let (now, hour) = (Utc::now(), Duration::from_secs(3600));
        let at = |hours| Message::new("").not_before(now + TimeDelta::hours(hours));
        for (message, delay) in [
            (at(2), 2 * hour),
            (at(2).with_delay(hour), 2 * hour),
            (at(2).with_delay(3 * hour), 3 * hour),
            (at(-2), Duration::ZERO),
            (at(-2).with_delay(hour), hour),
        ] {
            let id = message.id().clone();
            let begun = begin(message, now).unwrap();
            assert_eq!(begun, Message::new("").with_id(id).with_delay(delay));
        }
    }

    #[test]
    fn what_the_time_makes_wrong_is_refused_with_its_position() {
        let now = Utc::now();
        let soon = Message::new("").not_before(now + TimeDelta::seconds(2)).with_ttl(Duration::from_secs(1));
        for (message, field) in [
            (soon, "ttl"),
            (Message::new("").not_before(now + TimeDelta::days(366)), "delay"),
            (Message::new("").not_before(DateTime::<Utc>::MAX_UTC), "delay"),
        ] {
            let error = begin(message, now).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid {field} of message 1: ")), "{error}");
        }
        let distant = Message::new("").not_before(DateTime::<Utc>::MIN_UTC);
        assert_eq!(begin(distant, DateTime::<Utc>::MAX_UTC).unwrap().delay(), Duration::ZERO);
    }
}
