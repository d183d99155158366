//! What a queue is declared to be.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::millis::round_up;
use crate::named::Named;
use crate::{Dedup, Error, Pattern, QueueName, Result};

/// What a queue is declared to be. As JSON it is what brokers keep of it in their catalogues, and what a file of queues may
/// hold; a key that is not one of its own is refused.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> polyqueue::Result<()> {
/// use std::time::Duration;
/// use polyqueue::{Dedup, Overflow, Pattern, Queue, QueueName, QueueSpec};
///
/// # let queue = polyqueue_memory::MemoryQueue::new();
/// let orders = QueueSpec::new(QueueName::from_static("orders"))
///     .bind(Pattern::new("order.*.eu")?)
///     .bound(10_000, Overflow::Reject)
///     .dead_max_age(Duration::from_secs(30 * 24 * 3600))
///     .dedup(Dedup::window(Duration::from_secs(600)));
/// queue.declare(&orders).await?;
/// queue.declare(&orders).await?; // as it is: nothing to do
/// assert!(queue.declare(&orders.clone().dead_max_len(5)).await.is_err()); // says what differs
/// # Ok(()) }
/// ```
///
/// ```
/// use polyqueue::QueueSpec;
/// let spec: QueueSpec = serde_json::from_str(
///     r#"{"name": "mail", "bindings": ["order.#"], "bound": {"max_len": 1000, "overflow": "reject"}}"#,
/// ).unwrap();
/// assert_eq!(spec.name.as_str(), "mail");
/// let typo = serde_json::from_str::<QueueSpec>(r#"{"name": "mail", "bnidings": []}"#).unwrap_err();
/// assert!(typo.to_string().contains("unknown field `bnidings`"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Named<Fields>")]
#[non_exhaustive]
pub struct QueueSpec {
    /// Its name.
    pub name: QueueName,
    /// Messages whose routing key matches one of these are copied to this queue. A declaration adds bindings,
    /// [`Admin::unbind`](crate::Admin::unbind) removes them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub bindings: BTreeSet<Pattern>,
    /// How many ready messages it takes; no bound unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// How long dead letters are kept; for good unless set.
    #[serde(skip_serializing_if = "Retention::is_endless")]
    pub dead: Retention,
    /// Whether a message is stored once only by its [key](crate::Message::dedup_key); no keys are kept unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Dedup>,
}

/// A specification as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    name: QueueName,
    #[serde(default)]
    bindings: BTreeSet<Pattern>,
    bound: Option<Named<Bound>>,
    #[serde(default)]
    dead: Named<Retention>,
    dedup: Option<Named<Dedup>>,
}

impl From<Named<Fields>> for QueueSpec {
    fn from(Named(Fields { name, bindings, bound, dead, dedup }): Named<Fields>) -> Self {
        let (bound, dedup) = (bound.map(|Named(bound)| bound), dedup.map(|Named(dedup)| dedup));
        Self { name, bindings, bound, dead: dead.0, dedup }
    }
}

impl QueueSpec {
    /// A queue with this name: bound to no topic, without bounds, that keeps dead letters for good and no dedup keys.
    pub fn new(name: QueueName) -> Self {
        Self { name, bindings: BTreeSet::new(), bound: None, dead: Retention::default(), dedup: None }
    }

    /// The same, bound by one more pattern. Queues that are bound alike are consumer groups: each receives all.
    #[must_use]
    pub fn bind(mut self, pattern: Pattern) -> Self {
        self.bindings.insert(pattern);
        self
    }

    /// The same with at most `max_len` ready messages, and what becomes of a publish beyond.
    #[must_use]
    pub fn bound(mut self, max_len: u64, overflow: Overflow) -> Self {
        self.bound = Some(Bound { max_len, overflow });
        self
    }

    /// The same with at most this many dead letters; the oldest are dropped first, and counted.
    #[must_use]
    pub fn dead_max_len(mut self, letters: u64) -> Self {
        self.dead.max_len = Some(letters);
        self
    }

    /// The same with dead letters that are dropped when they have been dead for so long, rounded up to whole milliseconds, and
    /// counted.
    #[must_use]
    pub fn dead_max_age(mut self, age: Duration) -> Self {
        self.dead.max_age = Some(round_up(age));
        self
    }

    /// The same with a memory for dedup keys.
    #[must_use]
    pub fn dedup(mut self, dedup: Dedup) -> Self {
        self.dedup = Some(dedup);
        self
    }

    /// Whether this may be declared where `existing` is: bindings may be added, nothing else may differ. For backends.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names what differs.
    pub fn check_redeclared(&self, existing: &Self) -> Result<()> {
        let name = &self.name;
        same(name, "bound", &existing.bound, &self.bound)?;
        same(name, "dead", &existing.dead, &self.dead)?;
        same(name, "dedup", &existing.dedup, &self.dedup)
    }
}

fn same<T: Debug + PartialEq>(name: &QueueName, field: &'static str, is: &T, given: &T) -> Result<()> {
    if is == given {
        return Ok(());
    }
    let allowed =
        format!("{given:?} given, but queue {name} exists with {is:?}: declare the same, or delete it first");
    Err(Error::invalid(field, allowed))
}

impl From<QueueName> for QueueSpec {
    fn from(name: QueueName) -> Self {
        Self::new(name)
    }
}

/// How many ready messages a queue takes. Only an undelayed publish is held back by it: due, retried, released and redriven
/// messages always enter. Publishers that race may pass it by as many as are in flight at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// The most ready messages, at least 1.
    pub max_len: u64,
    /// What becomes of a publish beyond.
    pub overflow: Overflow,
}

/// What becomes of a publish to a queue that is full. Exhaustive: a new way must break backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It answers [`Error::Full`], and nothing is stored.
    Reject,
    /// It waits for room until its deadline; then it answers [`Error::Timeout`], and nothing is stored.
    Block,
    /// It is stored, and the oldest message of the lowest priority becomes a dead letter, `overflow`.
    DropOldest,
}

/// How long dead letters are kept. The oldest are dropped first, and counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// The most dead letters, at least 1; no bound unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_len: Option<u64>,
    /// How long one is kept after its death, whole milliseconds from 1 ms to 365 days; for good unless set.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::millis::optional",
        rename = "max_age_ms"
    )]
    pub max_age: Option<Duration>,
}

impl Retention {
    /// Whether nothing is ever dropped.
    pub fn is_endless(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> QueueSpec {
        QueueSpec::new(QueueName::from_static("mail"))
    }

    #[test]
    fn a_plain_queue_is_its_name_and_all_of_a_rich_one_comes_back() {
        assert_eq!(serde_json::to_string(&spec()).unwrap(), r#"{"name":"mail"}"#);
        let rich = spec()
            .bind(Pattern::new("order.#").unwrap())
            .bound(10, Overflow::DropOldest)
            .dead_max_len(5)
            .dead_max_age(Duration::from_secs(60))
            .dedup(Dedup::until_ack(Duration::from_millis(1500)));
        let json = serde_json::to_string(&rich).unwrap();
        assert_eq!(serde_json::from_str::<QueueSpec>(&json).unwrap(), rich, "{json}");
    }

    fn comes_back(spec: &QueueSpec) {
        let json = serde_json::to_string(spec).unwrap();
        let back = serde_json::from_str::<QueueSpec>(&json).unwrap();
        assert_eq!(back, *spec, "{json}");
        spec.check_redeclared(&back).unwrap();
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_time_is_rounded_up_to_milliseconds_and_comes_back(nanos in 0..2_000_000_000_u64, seconds in 0..1_u64 << 40) {
            for time in [Duration::from_nanos(nanos), Duration::new(seconds, nanos as u32 % 1_000_000_000)] {
                let age = spec().dead_max_age(time);
                let kept = age.dead.max_age.unwrap();
                assert!(kept >= time && kept - time < Duration::from_millis(1), "{time:?}: {kept:?}");
                comes_back(&age);
                comes_back(&spec().dedup(Dedup::window(time)));
                comes_back(&spec().dedup(Dedup::until_ack(time)));
            }
        }
    }

    #[test]
    fn a_time_that_is_not_whole_milliseconds_or_too_long_is_not_written() {
        for time in [Duration::from_micros(5), Duration::from_micros(1500), Duration::MAX] {
            let mut age = spec();
            age.dead.max_age = Some(time);
            let dedup = spec().dedup(Dedup { window: time, until: crate::DedupUntil::Ack });
            for spec in [age, dedup] {
                let error = serde_json::to_string(&spec).unwrap_err().to_string();
                assert!(error.contains("whole milliseconds"), "{error}");
                assert!(
                    matches!(crate::Limits::default().check_spec(&spec), Err(Error::Invalid { .. })),
                    "{time:?}"
                );
            }
        }
        assert!(serde_json::to_string(&spec().dead_max_age(Duration::MAX)).is_err());
    }

    #[test]
    fn an_unknown_key_and_an_invalid_value_are_named() {
        for (json, says) in [
            (r#"{"name":"q","colour":1}"#, "unknown field `colour`"),
            (r#"{"name":"q","bound":{"max_len":1,"overflow":"reject","min":1}}"#, "unknown field `min`"),
            (r#"{"name":"q","dead":{"max_age":1}}"#, "unknown field `max_age`"),
            (r#"{"name":"q","dedup":{"window_ms":1,"for":1}}"#, "unknown field `for`"),
            (r#"{"name":""}"#, "invalid queue name"),
            (r#"["q",[],null,{},null]"#, "invalid type: sequence, expected fields by their names"),
            (r#"{"name":"q","bound":[1,"reject"]}"#, "invalid type: sequence"),
            (r#"{"name":"q","dead":[1,1]}"#, "invalid type: sequence"),
            (r#"{"name":"q","dedup":[1]}"#, "invalid type: sequence"),
            (r#"{"name":"q","bindings":["a\nb"]}"#, r#"invalid pattern: "a\nb" has a control character"#),
            (r#"{"name":"q","bound":{"max_len":1,"overflow":"burst"}}"#, "unknown variant `burst`"),
            (r#"{"name":"q","bound":{"max_len":-1,"overflow":"reject"}}"#, "`-1`"),
            (r#"{"name":"q","dead":{"max_age_ms":"1h"}}"#, "\"1h\""),
            (r#"{"name":"q","dedup":{"window_ms":1,"until":"never"}}"#, "unknown variant `never`"),
        ] {
            let error = serde_json::from_str::<QueueSpec>(json).unwrap_err().to_string();
            assert!(error.contains(says), "{json}: {error}");
        }
    }

    #[test]
    fn a_difference_is_named_and_a_new_binding_is_none() {
        let bound = spec().bind(Pattern::new("#").unwrap());
        assert!(bound.check_redeclared(&spec()).is_ok());
        for (field, other) in [
            ("bound", spec().bound(1, Overflow::Reject)),
            ("dead", spec().dead_max_len(1)),
            ("dedup", spec().dedup(Dedup::window(Duration::from_secs(1)))),
        ] {
            let error = other.check_redeclared(&spec()).unwrap_err();
            assert!(matches!(&error, Error::Invalid { field: f, .. } if f == field), "{error}");
            assert!(error.to_string().contains("mail"), "{error}");
        }
    }
}
