//! The largest values that are accepted, checked before anything is sent.

use std::time::Duration;

use crate::{Error, Message, Result, Subscription, Verdict};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest values that a backend accepts; the default is the same for all of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a payload: 16 MiB.
    pub payload: usize,
    /// Entries of the headers: 256.
    pub headers: usize,
    /// Bytes of all keys and values of the headers: 64 KiB.
    pub header_bytes: usize,
    /// Bytes of a kind, a schema version, a correlation id or a consumer's name: 200.
    pub text: usize,
    /// A delay, also of a retry or release: 365 days.
    pub delay: Duration,
    /// The wait of one `receive`: 24 hours.
    pub wait: Duration,
    /// The shortest lease: 1 ms.
    pub lease_min: Duration,
    /// The longest lease: 24 hours.
    pub lease_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload: 16 * 1024 * 1024,
            headers: 256,
            header_bytes: 64 * 1024,
            text: 200,
            delay: 365 * DAY,
            wait: DAY,
            lease_min: Duration::from_millis(1),
            lease_max: DAY,
        }
    }
}

impl Limits {
    /// The first line of every backend's `publish`: all or nothing, before anything is sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the field, the position in the batch and what is allowed.
    pub fn check(&self, batch: &[Message]) -> Result<()> {
        for (index, message) in batch.iter().enumerate() {
            self.check_message(message).map_err(|error| error.at(index))?;
        }
        Ok(())
    }

    fn check_message(&self, message: &Message) -> Result<()> {
        at_most("payload", message.payload().len(), self.payload, "bytes")?;
        at_most("headers", message.headers().len(), self.headers, "entries")?;
        let header_bytes = message.headers().iter().map(|(key, value)| key.len() + value.len()).sum();
        at_most("headers", header_bytes, self.header_bytes, "bytes")?;
        self.check_text("kind", message.kind())?;
        self.check_text("schema version", message.schema_version().unwrap_or_default())?;
        self.check_text("correlation id", message.correlation_id().unwrap_or_default())?;
        self.check_delay("delay", message.delay())
    }

    /// The first line of every backend's `subscribe`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a lease outside 1 ms to 24 h, or a consumer's name over 200 bytes.
    pub fn check_subscription(&self, subscription: &Subscription) -> Result<()> {
        self.check_text("consumer", &subscription.consumer)?;
        if (self.lease_min..=self.lease_max).contains(&subscription.lease) {
            return Ok(());
        }
        let allowed = format!("{:?} given, allowed are {:?} to 24h", subscription.lease, self.lease_min);
        Err(Error::invalid("lease", allowed))
    }

    /// The first line of every backend's `receive`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wait beyond 24 h.
    pub fn check_wait(&self, wait: Duration) -> Result<()> {
        if wait <= self.wait {
            return Ok(());
        }
        Err(Error::invalid("wait", format!("{wait:?} given, allowed are at most 24h")))
    }

    /// What every backend asks of each verdict before it settles.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wait beyond 365 days.
    pub fn check_verdict(&self, verdict: &Verdict) -> Result<()> {
        match verdict {
            Verdict::Retry { after, .. } | Verdict::Release { after } => self.check_delay("after", *after),
            Verdict::Ack | Verdict::DeadLetter { .. } => Ok(()),
        }
    }

    fn check_delay(&self, field: &'static str, delay: Duration) -> Result<()> {
        if delay <= self.delay {
            return Ok(());
        }
        Err(Error::invalid(field, format!("{delay:?} given, allowed are at most 365 days")))
    }

    fn check_text(&self, field: &'static str, text: &str) -> Result<()> {
        if text.chars().any(char::is_control) {
            return Err(Error::invalid(field, "has a control character: none is allowed"));
        }
        at_most(field, text.len(), self.text, "bytes")
    }
}

fn at_most(field: &'static str, given: usize, allowed: usize, unit: &str) -> Result<()> {
    if given <= allowed {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{given} {unit} given, allowed are at most {allowed}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueueName;

    #[test]
    fn the_position_and_the_field_are_named() {
        let mut batch = vec![Message::new("ok"); 3];
        batch[2] = Message::new(vec![0; 16 * 1024 * 1024 + 1]);
        let error = Limits::default().check(&batch).unwrap_err();
        assert!(
            matches!(&error, Error::Invalid { field, index: Some(2), .. } if field == "payload"),
            "{error}"
        );
    }

    #[test]
    fn edges_are_allowed_and_one_beyond_is_not() {
        let limits = Limits::default();
        let year = 365 * DAY;
        assert!(limits.check(&[Message::new("").with_delay(year)]).is_ok());
        assert!(limits.check(&[Message::new("").with_delay(year + Duration::from_millis(1))]).is_err());
        let headers = |bytes: usize| Message::new("").with_header("k", "v".repeat(bytes - 1));
        assert!(limits.check(&[headers(64 * 1024)]).is_ok());
        assert!(limits.check(&[headers(64 * 1024 + 1)]).is_err());
        assert!(limits.check(&[Message::new("").with_kind("k".repeat(201))]).is_err());
    }

    #[test]
    fn a_lease_of_zero_is_refused() {
        let subscription = Subscription::new(QueueName::from_static("q")).lease(Duration::ZERO);
        let error = Limits::default().check_subscription(&subscription).unwrap_err();
        assert!(error.to_string().contains("lease"), "{error}");
    }
}
