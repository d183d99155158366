//! The queues that are listed: by name, by address, and by what they are bound by.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use polyqueue::backend::TopicIndex;
use polyqueue::{Pattern, QueueName, RoutingKey};

use crate::topology::records::CatalogueEntry;

/// The queues that are listed.
#[derive(Debug, Default)]
pub(crate) struct ListedQueues {
    by_name: BTreeMap<QueueName, CatalogueEntry>,
    by_address: HashMap<Arc<str>, QueueName>,
    bound: TopicIndex<QueueName>,
}

impl ListedQueues {
    /// Lists a queue, unless one of its name is.
    pub(crate) fn insert(&mut self, entry: CatalogueEntry) {
        let name = entry.name().clone();
        if self.by_name.contains_key(&name) {
            return;
        }
        entry.spec.bindings.iter().for_each(|pattern| self.bound.insert(pattern, name.clone()));
        self.by_address.insert(entry.address.clone(), name.clone());
        self.by_name.insert(name, entry);
    }

    /// Takes the queue of this name out, where it is at this address.
    pub(crate) fn remove(&mut self, queue: &str, address: &str) -> Option<CatalogueEntry> {
        let (name, _) = self.at(queue, address)?;
        let entry = self.by_name.remove(&name)?;
        if self.owner(address) == Some(&name) {
            self.by_address.remove(address);
        }
        entry.spec.bindings.iter().for_each(|pattern| self.bound.remove(pattern, &name));
        Some(entry)
    }

    /// Binds the queue of this name by one more pattern, where it is at this address.
    pub(crate) fn bind(&mut self, queue: &str, address: &str, pattern: Pattern) {
        let Some((name, entry)) = self.at(queue, address) else { return };
        Arc::make_mut(&mut entry.spec).bindings.insert(pattern.clone());
        self.bound.insert(&pattern, name);
    }

    /// It is not bound by this pattern any more.
    pub(crate) fn unbind(&mut self, queue: &str, address: &str, pattern: &Pattern) {
        let Some((name, entry)) = self.at(queue, address) else { return };
        Arc::make_mut(&mut entry.spec).bindings.remove(pattern);
        self.bound.remove(pattern, &name);
    }

    fn at(&mut self, queue: &str, address: &str) -> Option<(QueueName, &mut CatalogueEntry)> {
        let name = QueueName::new(queue).ok()?;
        let entry = self.by_name.get_mut(&name).filter(|entry| *entry.address == *address)?;
        Some((name, entry))
    }

    pub(crate) fn get(&self, queue: &QueueName) -> Option<&CatalogueEntry> {
        self.by_name.get(queue)
    }

    /// Whose this address is.
    pub(crate) fn owner(&self, address: &str) -> Option<&QueueName> {
        self.by_address.get(address)
    }

    /// Those that a message to this topic is for, by name.
    pub(crate) fn matching(&self, key: &RoutingKey) -> impl Iterator<Item = &CatalogueEntry> {
        self.bound.matching(key).into_iter().filter_map(|name| self.by_name.get(name))
    }

    /// All, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &CatalogueEntry> {
        self.by_name.values()
    }

    pub(crate) fn into_all(self) -> impl Iterator<Item = CatalogueEntry> {
        self.by_name.into_values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::QueueSpec;

    fn entry(name: &'static str, address: &str, patterns: &[&str]) -> CatalogueEntry {
        let spec = QueueSpec::new(QueueName::from_static(name));
        let spec = patterns.iter().fold(spec, |spec, pattern| spec.bind(Pattern::new(pattern).unwrap()));
        CatalogueEntry { address: address.into(), spec: Arc::new(spec) }
    }

    #[test]
    fn what_goes_takes_its_ways_along() {
        let mut listed = ListedQueues::default();
        let reached = |listed: &ListedQueues, key: &str| -> Vec<String> {
            let key = RoutingKey::new(key).unwrap();
            listed.matching(&key).map(|entry| entry.address.to_string()).collect()
        };
        listed.insert(entry("q", "1", &["a.*", "a.#"]));
        listed.insert(entry("q", "2", &["b"]));
        listed.insert(entry("r", "3", &["a.b"]));
        listed.bind("q", "2", Pattern::new("never").unwrap());
        listed.bind("q", "1", Pattern::new("b").unwrap());
        assert_eq!(
            (reached(&listed, "a.b"), reached(&listed, "b")),
            (vec!["1".into(), "3".into()], vec!["1".into()])
        );
        listed.unbind("q", "1", &Pattern::new("b").unwrap());
        assert!(listed.remove("q", "2").is_none() && reached(&listed, "b").is_empty());
        assert!(listed.remove("q", "1").is_some() && listed.owner("1").is_none());
        assert_eq!((reached(&listed, "a.b"), listed.len()), (vec!["3".into()], 1));
        // A foreign record may give one address to two.
        listed.insert(entry("s", "3", &[]));
        assert!(listed.remove("r", "3").is_some());
        assert_eq!(listed.owner("3"), Some(&QueueName::from_static("s")));
    }
}
