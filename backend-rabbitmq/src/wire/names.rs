//! What our queues are called on the broker.

use polyqueue::QueueName;

use super::delay::DUE;
use super::hash::Hash;

/// The longest name of an object, in bytes.
const LONGEST: usize = 255;

/// Ends the name of the exchange where everything enters.
const ENTRY: &str = ".in";
/// Begins a key that leads to an address.
const ADDRESS: &str = "a.";

/// The queue, and the exchange before it, which keep nothing, for all namespaces: what gets there has found a way.
pub(crate) const SINK: &str = "polyqueue.sink";

/// The names of one namespace. The middle word keeps users' names and ours apart.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    namespace: String,
}

impl Names {
    pub(crate) fn new(namespace: String) -> Self {
        Self { namespace }
    }

    /// The queue that holds ready messages.
    pub(crate) fn ready(&self, queue: &QueueName) -> String {
        format!("{}.q.{queue}", self.namespace)
    }

    /// The queue that holds dead letters.
    pub(crate) fn dead(&self, queue: &QueueName) -> String {
        format!("{}.dead.{queue}", self.namespace)
    }

    /// The exchange for messages to topics.
    pub(crate) fn topics(&self) -> String {
        format!("{}.topics", self.namespace)
    }

    /// The exchange where everything enters that is published to a queue.
    pub(crate) fn entry(&self) -> String {
        format!("{}{ENTRY}", self.namespace)
    }

    /// What is there as long as the life of a queue at this address.
    pub(crate) fn gate(&self, address: &str) -> String {
        format!("{}.at.{address}", self.namespace)
    }

    /// The address of a queue's first life, which nobody has to be told.
    pub(crate) fn first_address(&self, queue: &QueueName) -> String {
        let mut hash = Hash::new();
        hash.add(self.namespace.as_bytes());
        hash.add(queue.as_str().as_bytes());
        uuid::Builder::from_custom_bytes(hash.0.to_be_bytes()).into_uuid().simple().to_string()
    }

    /// A fresh inbox.
    pub(crate) fn inbox(&self) -> String {
        format!("{}.r.{}", self.namespace, uuid::Uuid::new_v4().simple())
    }

    /// Begins the names of the queues behind a queue's dedup keys.
    fn markers(&self, address: &str) -> String {
        format!("{}.dedup.{address}.", self.namespace)
    }

    /// The queue behind a dedup key. A key that is too long for a name is there by its hash.
    pub(crate) fn marker(&self, address: &str, key: &str) -> String {
        let markers = self.markers(address);
        if markers.len() + 2 + key.len() <= LONGEST {
            return format!("{markers}k.{key}");
        }
        let mut hash = Hash::new();
        hash.add(key.as_bytes());
        format!("{markers}h.{:032x}", hash.0)
    }

    /// Whether a broker's queue is behind a dedup key of the queue at this address.
    pub(crate) fn is_marker(&self, address: &str, object: &str) -> bool {
        object.starts_with(&self.markers(address))
    }

    /// The queue that says which dedup keys there are.
    pub(crate) fn keys(&self, address: &str) -> String {
        format!("{}.keys.{address}", self.namespace)
    }

    /// The exchange to which the queues behind dedup keys are bound.
    pub(crate) fn key_exchange(&self) -> String {
        format!("{}.keys", self.namespace)
    }

    /// The namespace itself.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The stream that says which queues there are.
    pub(crate) fn catalogue(&self) -> String {
        format!("{}.catalogue", self.namespace)
    }

    /// The lock of who ends a life of a queue.
    pub(crate) fn turn(&self, queue: &QueueName) -> String {
        format!("{}.turn.{}", self.namespace, self.first_address(queue))
    }

    /// The lock of who makes that stream.
    pub(crate) fn birth(&self) -> String {
        format!("{}.birth", self.catalogue())
    }
}

/// The address by which a message came that the broker delivers so; `None` where it came by name, or by a topic.
pub(crate) fn address_in<'a>(exchange: &str, key: &'a str) -> Option<&'a str> {
    if exchange == DUE { Some(key) } else { key.strip_prefix(ADDRESS).filter(|_| exchange.ends_with(ENTRY)) }
}

/// Whether an address is that of some queue's first life: a UUID of version 8. All others are random ones, of version 4.
pub(crate) fn is_first_address(address: &str) -> bool {
    uuid::Uuid::parse_str(address).is_ok_and(|id| id.get_version_num() == 8)
}

/// Leads to a queue that asks nothing of who publishes.
pub(crate) fn by_name(queue: &QueueName) -> String {
    format!("n.{queue}")
}

/// Leads to the queue at this address.
pub(crate) fn by_address(address: &str) -> String {
    format!("{ADDRESS}{address}")
}

/// Leads to the sink while the life at this address lasts.
pub(crate) fn lives(address: &str) -> String {
    format!("g.{address}")
}

/// Leads to the sink once the life at this address was ended in order.
pub(crate) fn ended(address: &str) -> String {
    format!("l.{address}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::{Limits, MAX_NAME_BYTES};

    fn longest() -> Names {
        Names::new("n".repeat(Limits::default().namespace))
    }

    #[test]
    fn users_names_and_ours_are_apart() {
        let names = longest();
        let catalogue = QueueName::new("catalogue").unwrap();
        assert_ne!(names.ready(&catalogue), names.catalogue());
    }

    #[test]
    fn every_object_of_the_longest_namespace_has_a_name_that_fits() {
        let (names, address) = (longest(), "a".repeat(32));
        let queue = QueueName::new("x".repeat(MAX_NAME_BYTES)).unwrap();
        let objects = [
            names.ready(&queue),
            names.dead(&queue),
            names.topics(),
            names.inbox(),
            names.marker(&address, &"k".repeat(200)),
            names.keys(&address),
            names.birth(),
            names.gate(&address),
            by_name(&queue),
        ];
        let longest = objects.iter().max_by_key(|object| object.len()).unwrap();
        assert!(longest.len() <= LONGEST, "{longest} has {} bytes", longest.len());
    }

    #[test]
    fn a_first_address_is_the_same_for_everybody_and_no_other_queues() {
        let (names, other) = (Names::new("n".into()), Names::new("na".into()));
        let [a, b] = ["b", "ab"].map(|name| QueueName::new(name).unwrap());
        assert_eq!(names.first_address(&a), "618c2ea1e6f68d9ea5243123d4af28ff");
        assert!(is_first_address(&names.first_address(&a)));
        assert!(!is_first_address(&uuid::Uuid::new_v4().simple().to_string()));
        assert_eq!(names.first_address(&a).len(), 32);
        assert_ne!(names.first_address(&b), other.first_address(&a));
    }

    #[test]
    fn every_key_has_a_name_of_its_own_that_fits() {
        let names = longest();
        let address = "a".repeat(32);
        let long = "k".repeat(200);
        let keys = ["a", "k.a", "h.a", &long, &"k".repeat(199), "#.*"];
        let mut objects: Vec<String> = keys.iter().map(|key| names.marker(&address, key)).collect();
        assert!(objects.iter().all(|object| object.len() <= 255 && names.is_marker(&address, object)));
        objects.sort();
        objects.dedup();
        assert_eq!(objects.len(), keys.len());
    }

    #[test]
    fn a_delivery_says_by_which_address_it_came() {
        let (names, address) = (Names::new("a.in".into()), "0123");
        assert_eq!(address_in(&names.entry(), &by_address(address)), Some(address));
        assert_eq!(address_in(DUE, address), Some(address));
        assert_eq!(address_in(&names.entry(), &by_name(&QueueName::from_static("a.b"))), None);
        assert_eq!(address_in("", &names.ready(&QueueName::from_static("q"))), None);
        assert_eq!(address_in(&names.topics(), "a.key"), None);
    }
}
