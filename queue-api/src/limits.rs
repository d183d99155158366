//! The largest values that are accepted, checked before anything is sent.

use std::time::Duration;

use crate::millis::are_whole;
use crate::{Destination, Error, Message, QueueSpec, Reschedule, Result, Subscription, Verdict};

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
    /// Bytes of a kind, a schema version, a correlation id, a dedup key or a consumer's name: 200.
    pub text: usize,
    /// Bytes of a namespace's name: 48. Enough for a UUID with its hyphens (36) and a prefix; beside `.dead.` and the 200 of a
    /// queue's name hardly more fits into the 255 of a name on RabbitMQ.
    pub namespace: usize,
    /// A delay, also of a retry or release: 365 days. So are a time to live, a dedup window and an age of dead letters.
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
            namespace: 48,
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
    pub fn check(&self, to: &Destination, batch: &[Message]) -> Result<()> {
        for (index, message) in batch.iter().enumerate() {
            let checked = self.check_message(message).and_then(|()| check_reply(to, message));
            checked.map_err(|error| error.at(index))?;
        }
        Ok(())
    }

    /// The first line of every backend's `declare`.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the field and what is allowed.
    pub fn check_spec(&self, spec: &QueueSpec) -> Result<()> {
        let at_least_1 = |field: &'static str, number: Option<u64>| match number {
            Some(0) => Err(Error::invalid(field, "0 given, allowed are 1 or more")),
            _ => Ok(()),
        };
        at_least_1("bound", spec.bound.map(|bound| bound.max_len))?;
        at_least_1("dead letters' max_len", spec.dead.max_len)?;
        self.check_whole_millis("dead letters' max_age", spec.dead.max_age)?;
        self.check_whole_millis("dedup window", spec.dedup.map(|dedup| dedup.window))
    }

    /// Brokers keep no more: what is declared again must be what was kept.
    fn check_whole_millis(&self, field: &'static str, time: Option<Duration>) -> Result<()> {
        self.check_time(field, time)?;
        match time {
            Some(time) if !are_whole(time) => {
                Err(Error::invalid(field, format!("{time:?} given, allowed are whole milliseconds")))
            }
            _ => Ok(()),
        }
    }

    /// What every backend asks of a new time before it reschedules.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a delay beyond 365 days.
    pub fn check_reschedule(&self, to: Reschedule) -> Result<()> {
        match to {
            Reschedule::Cancel => Ok(()),
            Reschedule::After(delay) => self.check_delay("delay", delay),
        }
    }

    /// One message, wherever it goes: for tools that check input line by line.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the field and what is allowed.
    pub fn check_message(&self, message: &Message) -> Result<()> {
        at_most("payload", message.payload().len(), self.payload, "bytes")?;
        self.check_text("kind", message.kind())?;
        self.check_delay("delay", message.delay())?;
        if message.is_plain() {
            return Ok(());
        }
        at_most("headers", message.headers().len(), self.headers, "entries")?;
        let header_bytes = message.headers().iter().map(|(key, value)| key.len() + value.len()).sum();
        at_most("headers", header_bytes, self.header_bytes, "bytes")?;
        self.check_text("schema version", message.schema_version().unwrap_or_default())?;
        self.check_text("correlation id", message.correlation_id().unwrap_or_default())?;
        self.check_ttl(message)?;
        message.dedup_key().map_or(Ok(()), |key| self.check_dedup_key(key))
    }

    pub(crate) fn check_dedup_key(&self, key: &str) -> Result<()> {
        match key {
            "" => Err(Error::invalid("dedup key", "is empty: allowed are 1 to 200 bytes")),
            key => self.check_text("dedup key", key),
        }
    }

    fn check_ttl(&self, message: &Message) -> Result<()> {
        self.check_time("ttl", message.ttl())?;
        match message.ttl() {
            Some(ttl) if ttl <= message.delay() => {
                let allowed =
                    format!("{ttl:?} given, allowed is more than the delay of {:?}", message.delay());
                Err(Error::invalid("ttl", allowed))
            }
            _ => Ok(()),
        }
    }

    /// 1 ms to 365 days, where there is one.
    fn check_time(&self, field: &'static str, time: Option<Duration>) -> Result<()> {
        match time {
            Some(time) if time < Duration::from_millis(1) || time > self.delay => {
                Err(Error::invalid(field, format!("{time:?} given, allowed are 1 ms to 365 days")))
            }
            _ => Ok(()),
        }
    }

    /// The first line of every backend's `namespace`; who connects by a [`Provider`](crate::Provider) has passed it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not 1 to 48 of `a-z`, `0-9`, `_` and `-`.
    pub fn check_namespace(&self, namespace: &str) -> Result<()> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
        if (1..=self.namespace).contains(&namespace.len()) && namespace.bytes().all(allowed) {
            return Ok(());
        }
        let rule = format!("{namespace:?} given, allowed are 1 to {} of a-z, 0-9, _ and -", self.namespace);
        Err(Error::invalid("namespace", rule))
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

/// Nothing is kept for an inbox: what only something that is kept can honour is refused.
fn check_reply(to: &Destination, message: &Message) -> Result<()> {
    let Destination::Reply(_) = to else { return Ok(()) };
    let refused = |field| Err(Error::invalid(field, "given, but a reply cannot have one"));
    match message {
        reply if !reply.delay().is_zero() => refused("delay"),
        reply if reply.ttl().is_some() => refused("ttl"),
        reply if reply.dedup_key().is_some() => refused("dedup key"),
        _ => Ok(()),
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
    use crate::{Dedup, Overflow, QueueName, ReplyAddress};

    fn check(batch: &[Message]) -> Result<()> {
        Limits::default().check(&QueueName::from_static("q").into(), batch)
    }

    #[test]
    fn the_position_and_the_field_are_named() {
        let mut batch = vec![Message::new("ok"); 3];
        batch[2] = Message::new(vec![0; 16 * 1024 * 1024 + 1]);
        let error = check(&batch).unwrap_err();
        assert!(
            matches!(&error, Error::Invalid { field, index: Some(2), .. } if field == "payload"),
            "{error}"
        );
    }

    #[test]
    fn edges_are_allowed_and_one_beyond_is_not() {
        let year = 365 * DAY;
        assert!(check(&[Message::new("").with_delay(year)]).is_ok());
        assert!(check(&[Message::new("").with_delay(year + Duration::from_millis(1))]).is_err());
        let headers = |bytes: usize| Message::new("").with_header("k", "v".repeat(bytes - 1));
        assert!(check(&[headers(64 * 1024)]).is_ok());
        assert!(check(&[headers(64 * 1024 + 1)]).is_err());
        assert!(check(&[Message::new("").with_kind("k".repeat(201))]).is_err());
    }

    #[test]
    fn a_ttl_is_longer_than_the_delay() {
        let second = Duration::from_secs(1);
        let with =
            |ttl: Duration, delay: Duration| check(&[Message::new("").with_ttl(ttl).with_delay(delay)]);
        assert!(with(second, Duration::ZERO).is_ok());
        assert!(with(365 * DAY, second).is_ok());
        for (ttl, delay) in [(Duration::ZERO, Duration::ZERO), (second, second), (366 * DAY, second)] {
            let error = with(ttl, delay).unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == "ttl"), "{error}");
        }
    }

    #[test]
    fn a_reply_cannot_wait_expire_or_be_deduplicated() {
        let inbox = Destination::Reply(ReplyAddress::new("here").unwrap());
        let refused = |message: Message| Limits::default().check(&inbox, &[message]).is_err();
        assert!(!refused(Message::new("")));
        assert!(refused(Message::new("").with_delay(DAY)));
        assert!(refused(Message::new("").with_ttl(DAY)));
        assert!(refused(Message::new("").with_dedup_key("k")));
        assert!(check(&[Message::new("").with_dedup_key("")]).is_err());
    }

    #[test]
    fn a_bound_of_nothing_and_a_window_of_no_time_are_refused() {
        let spec = || QueueSpec::new(QueueName::from_static("q"));
        let says = |spec: QueueSpec| match Limits::default().check_spec(&spec) {
            Ok(()) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(says(spec().bound(1, Overflow::Reject).dead_max_len(1)), "nothing");
        assert!(says(spec().bound(0, Overflow::Reject)).contains("bound"));
        assert!(says(spec().dead_max_len(0)).contains("max_len"));
        assert!(says(spec().dead_max_age(Duration::ZERO)).contains("max_age"));
        assert!(says(spec().dedup(Dedup::window(366 * DAY))).contains("dedup window"));
    }

    #[test]
    fn a_namespace_holds_a_uuid_and_a_prefix() {
        let check = |namespace: &str| Limits::default().check_namespace(namespace);
        for namespace in ["a", "tenant-0b1c2d3e-4f50-4617-8899-aabbccddeeff", &"_".repeat(48)] {
            check(namespace).unwrap();
        }
        for namespace in ["", "Upper", "a b", "a.b", "a:b", "ä", &"x".repeat(49)] {
            let error = check(namespace).unwrap_err().to_string();
            assert!(error.contains("1 to 48 of a-z, 0-9, _ and -"), "{error}");
        }
    }

    #[test]
    fn a_lease_of_zero_is_refused() {
        let subscription = Subscription::new(QueueName::from_static("q")).lease(Duration::ZERO);
        let error = Limits::default().check_subscription(&subscription).unwrap_err();
        assert!(error.to_string().contains("lease"), "{error}");
    }
}
