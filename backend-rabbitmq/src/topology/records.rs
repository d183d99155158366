//! What the catalogue's records say, and what follows from reading them in order.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use polyqueue::backend::stored_spec;
use polyqueue::{Pattern, QueueName, QueueSpec, RoutingKey};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::time::Instant;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first record: a stream that was read is never empty.
    Begin,
    /// The queue exists from here on, unless it did before.
    Declare {
        queue: String,
        address: Arc<str>,
        /// What it is declared to be; absent is nothing but its name.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "stored")]
        spec: Option<Arc<QueueSpec>>,
    },
    /// The queue at this address is bound by one more pattern.
    Bind { queue: String, address: Arc<str>, pattern: Pattern },
    /// It is not bound by this pattern any more.
    Unbind { queue: String, address: Arc<str>, pattern: Pattern },
    /// The queue at this address is gone.
    Delete { queue: String, address: Arc<str> },
}

fn stored<'de, D: Deserializer<'de>>(spec: D) -> Result<Option<Arc<QueueSpec>>, D::Error> {
    stored_spec(spec).map(|spec| Some(Arc::new(spec)))
}

impl Record {
    /// A declaration with a fresh address.
    pub(crate) fn declare(spec: &QueueSpec) -> Self {
        Self::Declare {
            queue: spec.name.to_string(),
            address: uuid::Uuid::new_v4().simple().to_string().into(),
            spec: Some(Arc::new(spec.clone())),
        }
    }
}

/// A queue, as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogueEntry {
    /// Tells it from a later queue of its name, and leads delayed messages to it.
    pub(crate) address: Arc<str>,
    pub(crate) spec: Arc<QueueSpec>,
}

impl CatalogueEntry {
    pub(crate) fn name(&self) -> &QueueName {
        &self.spec.name
    }

    pub(crate) fn is_bound_to(&self, key: &RoutingKey) -> bool {
        self.spec.bindings.iter().any(|pattern| pattern.matches(key))
    }
}

/// What became of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AddressOwner {
    /// This queue's.
    Queue(QueueName),
    /// A queue's that was deleted.
    Deleted,
    /// Nobody's that we know.
    Nobody,
}

/// What the records say so far.
#[derive(Debug, Default)]
pub(crate) struct KnownQueues {
    pub(crate) queues: BTreeMap<String, CatalogueEntry>,
    deleted: HashSet<Arc<str>>,
    /// Those of the deleted that this handle deleted.
    pub(crate) deleted_here: HashSet<Arc<str>>,
    /// The offset of the first record that was not read.
    pub(crate) next: i64,
    pub(crate) read_at: Option<Instant>,
}

impl KnownQueues {
    /// Reads the record at this offset, unless it was read.
    pub(crate) fn take(&mut self, offset: i64, record: &[u8]) {
        if offset < self.next {
            return;
        }
        self.next = offset + 1;
        match serde_json::from_slice(record) {
            Ok(record) => self.apply(record),
            Err(error) => {
                tracing::warn!(name: "rabbitmq.catalogue_record_unreadable", offset, %error, "passed over a record of the catalogue that cannot be read")
            }
        }
    }

    /// The first declaration since the last deletion wins.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Begin => {}
            Record::Declare { queue, address, spec } => self.declare(queue, address, spec),
            Record::Bind { queue, address, pattern } => {
                if let Some(spec) = self.spec_at(&queue, &address) {
                    spec.bindings.insert(pattern);
                }
            }
            Record::Unbind { queue, address, pattern } => {
                if let Some(spec) = self.spec_at(&queue, &address) {
                    spec.bindings.remove(&pattern);
                }
            }
            Record::Delete { queue, address } => {
                if self.queues.get(&queue).is_some_and(|entry| entry.address == address) {
                    self.queues.remove(&queue);
                }
                self.deleted.insert(address);
            }
        }
    }

    fn declare(&mut self, queue: String, address: Arc<str>, spec: Option<Arc<QueueSpec>>) {
        let Ok(name) = QueueName::new(&queue) else { return };
        let spec = spec.filter(|spec| spec.name == name);
        let spec = spec.unwrap_or_else(|| Arc::new(QueueSpec::new(name)));
        self.queues.entry(queue).or_insert(CatalogueEntry { address, spec });
    }

    fn spec_at(&mut self, queue: &str, address: &Arc<str>) -> Option<&mut QueueSpec> {
        let entry = self.queues.get_mut(queue).filter(|entry| entry.address == *address)?;
        Some(Arc::make_mut(&mut entry.spec))
    }

    /// Whose an address is.
    pub(crate) fn whose(&self, address: &str) -> AddressOwner {
        if let Some(entry) = self.queues.values().find(|entry| *entry.address == *address) {
            return AddressOwner::Queue(entry.name().clone());
        }
        if self.deleted.contains(address) { AddressOwner::Deleted } else { AddressOwner::Nobody }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declare(queue: &str, address: &str) -> Record {
        Record::Declare { queue: queue.into(), address: address.into(), spec: None }
    }

    fn delete(queue: &str, address: &str) -> Record {
        Record::Delete { queue: queue.into(), address: address.into() }
    }

    fn bind(address: &str, pattern: &str) -> Record {
        let pattern = Pattern::new(pattern).unwrap();
        Record::Bind { queue: "q".into(), address: address.into(), pattern }
    }

    fn known(records: impl IntoIterator<Item = Record>) -> KnownQueues {
        let mut known = KnownQueues::default();
        for record in records {
            known.apply(record);
        }
        known
    }

    #[test]
    fn the_first_declaration_since_the_last_deletion_wins() {
        let known = known([
            declare("q", "1"),
            declare("q", "2"),
            delete("q", "1"),
            delete("q", "1"),
            declare("q", "3"),
            declare("q", "4"),
            delete("q", "2"),
        ]);
        assert_eq!(&*known.queues["q"].address, "3");
        assert_eq!((known.whose("1"), known.whose("5")), (AddressOwner::Deleted, AddressOwner::Nobody));
        assert_eq!(known.whose("3"), AddressOwner::Queue(QueueName::from_static("q")));
    }

    #[test]
    fn a_binding_is_of_its_address() {
        let pattern = Pattern::new("b").unwrap();
        let unbind = Record::Unbind { queue: "q".into(), address: "1".into(), pattern };
        let known = known([declare("q", "1"), bind("1", "a.#"), bind("0", "c"), bind("1", "b"), unbind]);
        let entry = &known.queues["q"];
        let patterns: Vec<&str> = entry.spec.bindings.iter().map(Pattern::as_str).collect();
        assert_eq!(patterns, ["a.#"]);
        assert!(entry.is_bound_to(&RoutingKey::new("a.x").unwrap()));
        assert!(!entry.is_bound_to(&RoutingKey::new("b").unwrap()));
    }

    #[test]
    fn records_read_as_they_were_written() {
        let spec = QueueSpec::new(QueueName::from_static("é")).bound(3, polyqueue::Overflow::Reject);
        let record = Record::Declare { queue: "é".into(), address: "a".into(), spec: Some(Arc::new(spec)) };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(
            json,
            r#"{"op":"declare","queue":"é","address":"a","spec":{"name":"é","bound":{"max_len":3,"overflow":"reject"}}}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        let plain = r#"{"op":"declare","queue":"é","address":"a"}"#;
        assert_eq!(serde_json::from_str::<Record>(plain).unwrap(), declare("é", "a"));
    }

    #[test]
    fn a_record_of_a_later_version_is_read_as_far_as_it_is_known() {
        let later = r#"{"op":"declare","queue":"q","address":"1","since":3,
            "spec":{"name":"q","bound":{"max_len":3,"overflow":"reject","unit":"bytes"},"colour":{"name":1}}}"#;
        let mut known = KnownQueues::default();
        known.take(0, later.as_bytes());
        let spec = QueueSpec::new(QueueName::from_static("q")).bound(3, polyqueue::Overflow::Reject);
        assert_eq!(*known.queues["q"].spec, spec);
    }
}
