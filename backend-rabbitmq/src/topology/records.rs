//! What the catalogue's records are.

use std::sync::Arc;

use polyqueue::backend::stored_spec;
use polyqueue::{Pattern, QueueName, QueueSpec};
use serde::{Deserialize, Deserializer, Serialize};

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first record, by whose `stream` a stream is told from another of its name.
    Begin {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
    },
    /// The queue exists from here on, unless it did before.
    Declare(Listed),
    /// The queue at the address `former` is gone, though nobody has deleted it in order, and goes on at another. Nothing, unless it
    /// was at that address.
    Renew {
        former: Arc<str>,
        #[serde(flatten)]
        listed: Listed,
    },
    /// The queue at this address is bound by one more pattern.
    Bind { queue: String, address: Arc<str>, pattern: Pattern },
    /// It is not bound by this pattern any more.
    Unbind { queue: String, address: Arc<str>, pattern: Pattern },
    /// The queue at this address is being deleted: it is no more, although some of it may be there.
    Deleting { queue: String, address: Arc<str> },
    /// The queue at this address is gone.
    Delete { queue: String, address: Arc<str> },
    /// Written by a reader to see where the end is.
    Mark { by: String },
    /// All that the records before the offset `upto` say.
    Snapshot {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
        upto: i64,
        queues: Vec<Listed>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deleting: Vec<Listed>,
        /// Addresses of first lives that were ended.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ended: Vec<Arc<str>>,
    },
}

/// A queue, its address, and what it is declared to be; absent is nothing but its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) queue: String,
    pub(crate) address: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "stored")]
    pub(crate) spec: Option<Arc<QueueSpec>>,
}

fn stored<'de, D: Deserializer<'de>>(spec: D) -> Result<Option<Arc<QueueSpec>>, D::Error> {
    stored_spec(spec).map(|spec| Some(Arc::new(spec)))
}

impl Record {
    /// A declaration of a life at this address, which may be the next of one that has gone.
    pub(crate) fn declare(spec: &QueueSpec, address: Arc<str>, former: Option<&CatalogueEntry>) -> Self {
        let listed = Listed::from(&CatalogueEntry { address, spec: Arc::new(spec.clone()) });
        match former {
            Some(former) => Self::Renew { former: former.address.clone(), listed },
            None => Self::Declare(listed),
        }
    }
}

/// An address that no life had before.
pub(crate) fn fresh_address() -> Arc<str> {
    uuid::Uuid::new_v4().simple().to_string().into()
}

/// A queue, as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogueEntry {
    /// Tells it from a later queue of its name, and leads to it.
    pub(crate) address: Arc<str>,
    pub(crate) spec: Arc<QueueSpec>,
}

impl CatalogueEntry {
    pub(crate) fn name(&self) -> &QueueName {
        &self.spec.name
    }

    /// Whether who publishes must know what it is declared to be.
    pub(crate) fn is_careful(&self) -> bool {
        self.spec.bound.is_some() || self.spec.dedup.is_some()
    }
}

impl From<&CatalogueEntry> for Listed {
    fn from(entry: &CatalogueEntry) -> Self {
        let (queue, address) = (entry.name().to_string(), entry.address.clone());
        Self { queue, address, spec: Some(entry.spec.clone()) }
    }
}

impl Listed {
    /// The queue, where its name is one.
    pub(crate) fn entry(self) -> Option<CatalogueEntry> {
        let name = QueueName::new(&self.queue).ok()?;
        let spec = self.spec.filter(|spec| spec.name == name);
        let spec = spec.unwrap_or_else(|| Arc::new(QueueSpec::new(name)));
        Some(CatalogueEntry { address: self.address, spec })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_as_they_were_written() {
        let spec = QueueSpec::new(QueueName::from_static("é")).bound(3, polyqueue::Overflow::Reject);
        let record = Record::declare(&spec, "a".into(), None);
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(
            json,
            r#"{"op":"declare","queue":"é","address":"a","spec":{"name":"é","bound":{"max_len":3,"overflow":"reject"}}}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        let plain: Record = serde_json::from_str(r#"{"op":"declare","queue":"é","address":"a"}"#).unwrap();
        let Record::Declare(plain) = plain else { panic!("{plain:?}") };
        assert_eq!(plain.entry().unwrap().spec, Arc::new(QueueSpec::new(QueueName::from_static("é"))));
        let former = CatalogueEntry { address: "former".into(), spec: Arc::new(spec.clone()) };
        let renewed = Record::declare(&spec, "b".into(), Some(&former));
        let json = serde_json::to_string(&renewed).unwrap();
        assert!(
            json.starts_with(r#"{"op":"renew","former":"former","queue":"é","address":"b","spec":"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), renewed);
        let begin = Record::Begin { stream: None };
        assert_eq!(serde_json::from_str::<Record>(r#"{"op":"begin"}"#).unwrap(), begin);
    }
}
