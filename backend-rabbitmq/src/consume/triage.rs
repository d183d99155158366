//! What is done with a delivery.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use polyqueue::{DeadReason, MessageId};
use tokio::time::Instant;

use crate::consume::boots::{Age, Return};
use crate::queue_type::behavior::QueueType;
use crate::settle::fetched::{Fetched, Life};
use crate::settle::job::Settlement;
use crate::wire::dead::{Death, EXPIRED};
use crate::wire::decode::{Decoded, decode};
use crate::wire::properties::Raw;

/// How many messages that looked expired are remembered at most.
const MAX_SUSPECTS: usize = 10_000;
/// By then the broker has sent again what has not expired.
const SENT_AGAIN: Duration = Duration::from_secs(10);

/// What is done with a delivery.
#[derive(Debug)]
pub(crate) enum Action {
    HandOut(Arc<Fetched>),
    Replace(Settlement),
    /// A crash of the broker has marked it: it is published again, before all others, the same attempt.
    Renew(Arc<Fetched>),
    /// To the broker, which decides whether it has expired.
    Reject,
}

/// Sorts the deliveries of one channel.
pub(crate) struct Triage {
    queue_type: &'static dyn QueueType,
    /// For messages that do not say.
    max_attempts: NonZeroU32,
    /// Messages that looked expired, given back so that the broker decides.
    suspects: HashMap<MessageId, Suspect>,
}

/// What looked expired, once.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    since: Instant,
    /// It was given back, and has not come since: it had come back before that, or not.
    given_back: Option<bool>,
}

impl Triage {
    pub(crate) fn new(queue_type: &'static dyn QueueType, max_attempts: NonZeroU32) -> Self {
        Self { queue_type, max_attempts, suspects: HashMap::new() }
    }

    /// What to do with a message that the queue has delivered in this life of it.
    pub(crate) fn sort(
        &mut self,
        raw: Raw,
        redelivered: bool,
        age: Age,
        life: Life,
        now: DateTime<Utc>,
    ) -> Action {
        let decoded = match decode(&raw) {
            Ok(decoded) => decoded,
            Err(why) => {
                let death = death(DeadReason::Undecodable, &why, 0, now);
                return Action::Replace(Settlement::Undecodable(raw.into(), death));
            }
        };
        if self.queue_type.overlooks_expired() && self.is_suspect(&decoded, now) {
            let suspect = Suspect { since: Instant::now(), given_back: Some(redelivered) };
            self.suspects.insert(decoded.message.id().clone(), suspect);
            return Action::Reject;
        }
        let came_back = redelivered && self.came_back(decoded.message.id());
        let came_back = Return::of(came_back, age);
        let item = self.fetched(raw, decoded, came_back == Return::Attempt, life, now);
        if item.is_stale() {
            return Action::Replace(expired(item, now));
        }
        if item.attempt > item.max_attempts {
            let error = item.message.last_error().unwrap_or("the last holder went away");
            let death = death(DeadReason::MaxAttempts, error, item.attempt - 1, now);
            return Action::Replace(Settlement::DeadLetter(item, death));
        }
        match came_back {
            _ if !self.queue_type.republishes_returned() => Action::HandOut(item),
            Return::None => Action::HandOut(item),
            Return::Attempt => Action::Replace(Settlement::Recovery(item)),
            Return::Mark => Action::Renew(item),
        }
    }

    /// Whether what is marked had come back before this client gave it to the broker to decide.
    fn came_back(&mut self, id: &MessageId) -> bool {
        let suspect = self.suspects.get_mut(id);
        suspect.and_then(|suspect| suspect.given_back.take()).unwrap_or(true)
    }

    fn fetched(
        &self,
        raw: Raw,
        decoded: Decoded,
        counts: bool,
        life: Life,
        now: DateTime<Utc>,
    ) -> Arc<Fetched> {
        let Decoded { message, lives, expiry } = decoded;
        let readers = self.max_attempts.get().max(lives.allowed);
        let max_attempts = message.max_attempts().map_or(readers, NonZeroU32::get);
        let stale_at = expiry.map(|expiry| expiry.stale_at(now));
        let attempt = self.queue_type.attempt(lives.attempt, counts, raw.properties.headers().as_ref());
        Arc::new(Fetched {
            raw,
            message,
            came: Instant::now(),
            attempt,
            max_attempts,
            expiry,
            stale_at,
            life,
            replacement: Default::default(),
        })
    }

    /// Whether a message that the broker counts has expired by our clock, although it was sent, for the first time. Some kinds of queue
    /// look again when a message is given back: either the broker dead-letters this one, or sends it again, to us or to another, for
    /// our clock is wrong.
    fn is_suspect(&mut self, decoded: &Decoded, now: DateTime<Utc>) -> bool {
        let over = decoded.expiry.is_some_and(|expiry| expiry.watched && expiry.is_over(now));
        if over && self.suspects.len() >= MAX_SUSPECTS {
            self.suspects.retain(|_, suspect| suspect.since.elapsed() < SENT_AGAIN);
        }
        over && self.suspects.len() < MAX_SUSPECTS && !self.suspects.contains_key(decoded.message.id())
    }
}

/// A message that was not handed out in time.
pub(crate) fn expired(item: Arc<Fetched>, now: DateTime<Utc>) -> Settlement {
    let death = death(DeadReason::Expired, EXPIRED, item.attempt.saturating_sub(1), now);
    Settlement::DeadLetter(item, death)
}

/// A death in nobody's hands.
fn death(reason: DeadReason, error: &str, attempts: u32, at: DateTime<Utc>) -> Death {
    Death { reason, error: error.to_owned(), attempts, consumer: None, at }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;
    use crate::queue_type::classic::Classic;
    use crate::wire::properties::key;

    const NOW: i64 = 1_700_000_000_000;
    const LIMIT: NonZeroU32 = NonZeroU32::new(3).unwrap();

    fn triage() -> Triage {
        Triage::new(&Classic, LIMIT)
    }

    fn raw(headers: &[(&str, i64)], ttl: Option<&str>) -> Raw {
        let mut table = FieldTable::default();
        for (key, value) in headers {
            table.insert((*key).into(), AMQPValue::LongLongInt(*value));
        }
        let mut properties = BasicProperties::default().with_message_id("m".into()).with_headers(table);
        if let Some(ttl) = ttl {
            properties = properties.with_expiration(ttl.into());
        }
        Raw { properties, body: "body".into() }
    }

    fn sorted(triage: &mut Triage, raw: Raw, redelivered: bool) -> (&'static str, u32) {
        aged(triage, raw, redelivered, Age::Current)
    }

    fn aged(triage: &mut Triage, raw: Raw, redelivered: bool, age: Age) -> (&'static str, u32) {
        let now = DateTime::from_timestamp_millis(NOW).unwrap();
        match triage.sort(raw, redelivered, age, Life::default(), now) {
            Action::HandOut(item) => ("hand out", item.attempt),
            Action::Replace(Settlement::Recovery(item)) => ("republish", item.attempt),
            Action::Renew(item) => ("renew", item.attempt),
            Action::Replace(Settlement::DeadLetter(_, death) | Settlement::Undecodable(_, death)) => {
                assert_eq!(death.consumer, None);
                (death.reason.as_str(), death.attempts)
            }
            Action::Replace(other) => panic!("{other:?}"),
            Action::Reject => ("reject", 0),
        }
    }

    #[test]
    fn a_delivery_is_sorted_by_what_it_says_and_whether_it_came_back() {
        let fresh = raw(&[], None);
        let third = raw(&[(key::ATTEMPT, 3)], None);
        let fourth = raw(&[(key::ATTEMPT, 4)], None);
        let others = raw(&[(key::ATTEMPT, 4), (key::ALLOWED, 5)], None);
        let unreadable = raw(&[(key::VERSION, 99)], None);
        let over = raw(&[(key::TTL, 1000), (key::EXPIRES, NOW)], None);
        let alive = raw(&[(key::TTL, 1000), (key::EXPIRES, NOW + 1000)], None);
        let watched_over = raw(&[(key::TTL, 1000), (key::EXPIRES, NOW)], Some("1000"));
        for (raw, redelivered, expected) in [
            (&fresh, false, ("hand out", 1)),
            (&fresh, true, ("republish", 2)),
            (&third, false, ("hand out", 3)),
            (&third, true, ("max_attempts", 3)),
            (&fourth, false, ("max_attempts", 3)),
            (&others, false, ("hand out", 4)),
            (&unreadable, false, ("undecodable", 0)),
            (&over, false, ("expired", 0)),
            (&over, true, ("expired", 1)),
            (&alive, false, ("hand out", 1)),
            (&alive, true, ("republish", 2)),
            (&watched_over, false, ("reject", 0)),
            (&watched_over, true, ("reject", 0)),
        ] {
            assert_eq!(sorted(&mut triage(), raw.clone(), redelivered), expected, "{raw:?} {redelivered}");
        }
    }

    #[test]
    fn what_the_broker_sends_again_has_not_expired_and_burned_no_attempt() {
        let suspect = raw(&[(key::TTL, 1000), (key::EXPIRES, NOW)], Some("1000"));
        let mut triage = triage();
        assert_eq!(sorted(&mut triage, suspect.clone(), false), ("reject", 0));
        assert_eq!(sorted(&mut triage, suspect.clone(), true), ("hand out", 1));
        assert_eq!(sorted(&mut triage, suspect, true), ("republish", 2));
    }

    #[test]
    fn what_came_back_before_it_looked_expired_has_come_back() {
        let suspect = raw(&[(key::TTL, 1000), (key::EXPIRES, NOW)], Some("1000"));
        let mut triage = triage();
        assert_eq!(sorted(&mut triage, suspect.clone(), true), ("reject", 0));
        assert_eq!(sorted(&mut triage, suspect.clone(), true), ("republish", 2));
        assert_eq!(sorted(&mut triage, suspect, false), ("hand out", 1));
    }

    #[test]
    fn what_a_crash_has_marked_is_nobodys_attempt_however_often() {
        let third = raw(&[(key::ATTEMPT, 3)], None);
        for age in [Age::Past, Age::Unknown] {
            assert_eq!(aged(&mut triage(), third.clone(), true, age), ("renew", 3));
            assert_eq!(aged(&mut triage(), third.clone(), false, age), ("hand out", 3));
        }
        assert_eq!(aged(&mut triage(), third, true, Age::Current), ("max_attempts", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn suspects_are_bounded_and_forgotten_in_time() {
        let suspect = raw(&[(key::TTL, 1000), (key::EXPIRES, NOW)], Some("1000"));
        let mut triage = triage();
        for number in 0..MAX_SUSPECTS {
            let suspect = Suspect { since: Instant::now(), given_back: None };
            triage.suspects.insert(MessageId::new(number.to_string()).unwrap(), suspect);
        }
        assert_eq!(sorted(&mut triage, suspect.clone(), false), ("hand out", 1));
        tokio::time::advance(SENT_AGAIN).await;
        assert_eq!(sorted(&mut triage, suspect, false), ("reject", 0));
        assert_eq!(triage.suspects.len(), 1);
    }
}
