//! What follows from reading the catalogue's records in order: which queues there are, and which lives were ended.

use std::collections::HashMap;
use std::sync::Arc;

use polyqueue::QueueName;
use tokio::time::Instant;

use crate::topology::listed::ListedQueues;
use crate::topology::recent::Recent;
use crate::topology::records::{CatalogueEntry, Listed, Record};
use crate::wire::names::is_first_address;

/// So many records follow a snapshot before the next is due, at least; and so many for each queue in it.
const RECORDS: i64 = 1_000;
const RECORDS_A_QUEUE: i64 = 2;

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
    pub(crate) queues: ListedQueues,
    /// Queues whose deletion has begun, by their addresses.
    pub(crate) deleting: HashMap<Arc<str>, CatalogueEntry>,
    ended: Recent,
    /// Which stream it is, where that was read.
    pub(crate) stream: Option<String>,
    /// Where to begin for all that the last snapshot says, and what was written since.
    pub(crate) from: Option<i64>,
    /// The offset of the first record that was not read.
    pub(crate) next: i64,
    pub(crate) read_at: Option<Instant>,
    /// What is read before the snapshot that it comes after.
    early: Option<Vec<(i64, Record)>>,
}

impl KnownQueues {
    /// Begins to read where the last snapshot begins, or with the first record.
    pub(crate) fn beginning(from: Option<i64>) -> Self {
        Self { from, next: from.unwrap_or(0), early: from.map(|_| Vec::new()), ..Self::default() }
    }

    /// Whether the snapshot has come that it began with.
    pub(crate) fn is_whole(&self) -> bool {
        self.early.is_none()
    }

    /// Reads the record at this offset, unless it was read; answers whose mark it is.
    pub(crate) fn take(&mut self, offset: i64, record: &[u8]) -> Option<String> {
        if offset < self.next {
            return None;
        }
        self.next = offset + 1;
        match serde_json::from_slice(record) {
            Ok(Record::Mark { by }) => return Some(by),
            Ok(record) => self.read(offset, record),
            Err(error) => {
                tracing::warn!(name: "rabbitmq.catalogue_record_unreadable", offset, %error, "passed over a record of the catalogue that cannot be read")
            }
        }
        None
    }

    fn read(&mut self, offset: i64, record: Record) {
        if let Record::Snapshot { stream, upto, queues, deleting, ended } = record {
            if self.early.is_some() && self.from == Some(upto) {
                ended.into_iter().for_each(|address| self.ended.insert(address));
                self.begin_with(stream, queues, deleting);
            } else if self.from.is_none_or(|from| from < upto) {
                self.from = Some(upto);
            }
            return;
        }
        match &mut self.early {
            Some(early) => early.push((offset, record)),
            None => self.apply(record),
        }
    }

    fn begin_with(&mut self, stream: Option<String>, queues: Vec<Listed>, deleting: Vec<Listed>) {
        self.stream = stream;
        for entry in queues.into_iter().filter_map(Listed::entry) {
            self.queues.insert(entry);
        }
        let deleting = deleting.into_iter().filter_map(Listed::entry);
        self.deleting.extend(deleting.map(|entry| (entry.address.clone(), entry)));
        for (_, record) in self.early.take().unwrap_or_default() {
            self.apply(record);
        }
    }

    /// Acts by a record. The first declaration since the last deletion wins.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Begin { stream } => self.stream = self.stream.take().or(stream),
            Record::Declare(listed) => {
                if let Some(entry) = listed.entry().filter(|entry| !self.ended.contains(&entry.address)) {
                    self.queues.insert(entry);
                }
            }
            Record::Renew { former, listed } => {
                if self.queues.remove(&listed.queue, &former).is_some() {
                    self.ended.insert(former);
                    self.apply(Record::Declare(listed));
                }
            }
            Record::Bind { queue, address, pattern } => {
                self.queues.bind(&queue, &address, pattern);
            }
            Record::Unbind { queue, address, pattern } => {
                self.queues.unbind(&queue, &address, &pattern);
            }
            Record::Deleting { queue, address } => {
                if let Some(entry) = self.queues.remove(&queue, &address) {
                    self.deleting.insert(address, entry);
                }
            }
            Record::Delete { queue, address } => {
                self.queues.remove(&queue, &address);
                self.deleting.remove(&address);
                self.ended.insert(address);
            }
            Record::Mark { .. } | Record::Snapshot { .. } => {}
        }
    }

    /// A deletion of a queue of this name that has begun, and has not ended.
    pub(crate) fn being_deleted(&self, queue: &QueueName) -> Option<CatalogueEntry> {
        self.deleting.values().find(|entry| entry.name() == queue).cloned()
    }

    /// Whose an address is.
    pub(crate) fn whose(&self, address: &str) -> AddressOwner {
        if let Some(queue) = self.queues.owner(address) {
            return AddressOwner::Queue(queue.clone());
        }
        if self.ended.contains(address) || self.deleting.contains_key(address) {
            AddressOwner::Deleted
        } else {
            AddressOwner::Nobody
        }
    }

    /// The queues that were known of another stream and that this one says nothing of: nobody has deleted them in order.
    pub(crate) fn lost_since(&self, former: Self) -> Vec<CatalogueEntry> {
        if former.stream.is_some() && former.stream == self.stream {
            return Vec::new();
        }
        let known = |entry: &CatalogueEntry| {
            self.queues.get(entry.name()).is_some() || self.whose(&entry.address) == AddressOwner::Deleted
        };
        former.queues.into_all().filter(|entry| !known(entry)).collect()
    }

    /// The next snapshot, where so much was written since the last one that it is time.
    pub(crate) fn due_snapshot(&self) -> Option<Record> {
        let since = self.next - self.from.unwrap_or(0);
        let queues = i64::try_from(self.queues.len()).unwrap_or(i64::MAX);
        if !self.is_whole() || since < RECORDS.max(queues.saturating_mul(RECORDS_A_QUEUE)) {
            return None;
        }
        Some(Record::Snapshot {
            stream: self.stream.clone(),
            upto: self.next,
            queues: self.queues.all().map(Listed::from).collect(),
            deleting: self.deleting.values().map(Listed::from).collect(),
            // No other address is ever given to a second life.
            ended: self.ended.iter().filter(|address| is_first_address(address)).cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::{Pattern, QueueSpec, RoutingKey};

    fn declare(queue: &str, address: &str) -> Record {
        Record::Declare(Listed { queue: queue.into(), address: address.into(), spec: None })
    }

    fn delete(queue: &str, address: &str) -> Record {
        Record::Delete { queue: queue.into(), address: address.into() }
    }

    fn deleting(queue: &str, address: &str) -> Record {
        Record::Deleting { queue: queue.into(), address: address.into() }
    }

    fn begin(stream: &str) -> Record {
        Record::Begin { stream: Some(stream.into()) }
    }

    fn bind(address: &str, pattern: &str) -> Record {
        let pattern = Pattern::new(pattern).unwrap();
        Record::Bind { queue: "q".into(), address: address.into(), pattern }
    }

    fn entry_of(known: &KnownQueues) -> &CatalogueEntry {
        known.queues.get(&QueueName::from_static("q")).unwrap()
    }

    fn all(known: &KnownQueues) -> Vec<&CatalogueEntry> {
        known.queues.all().collect()
    }

    fn known(records: impl IntoIterator<Item = Record>) -> KnownQueues {
        read(KnownQueues::default(), 0, records)
    }

    fn read(mut known: KnownQueues, at: i64, records: impl IntoIterator<Item = Record>) -> KnownQueues {
        for (offset, record) in (at..).zip(records) {
            known.take(offset, &serde_json::to_vec(&record).unwrap());
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
            declare("q", "1"),
            declare("q", "3"),
            declare("q", "4"),
            delete("q", "2"),
        ]);
        assert_eq!(&*entry_of(&known).address, "3");
        assert_eq!((known.whose("1"), known.whose("5")), (AddressOwner::Deleted, AddressOwner::Nobody));
        assert_eq!(known.whose("3"), AddressOwner::Queue(QueueName::from_static("q")));
    }

    #[test]
    fn a_queue_that_went_goes_on_at_another_address_unless_it_has_done_so_or_was_deleted() {
        let renew = |former: &str, address: &str| Record::Renew {
            former: former.into(),
            listed: Listed { queue: "q".into(), address: address.into(), spec: None },
        };
        let twice = known([declare("q", "1"), renew("1", "2"), renew("1", "3")]);
        assert_eq!(&*entry_of(&twice).address, "2");
        assert_eq!(twice.whose("1"), AddressOwner::Deleted);
        assert!(known([declare("q", "1"), deleting("q", "1"), renew("1", "2")]).queues.len() == 0);
        assert!(known([declare("q", "1"), delete("q", "1"), renew("1", "2")]).queues.len() == 0);
    }

    #[test]
    fn a_deletion_that_has_begun_is_no_queue_and_is_known_until_it_has_ended() {
        let q = QueueName::from_static("q");
        let begun = known([declare("q", "1"), deleting("q", "1"), deleting("q", "0")]);
        assert!(begun.queues.len() == 0);
        assert_eq!(&*begun.being_deleted(&q).unwrap().address, "1");
        assert_eq!(begun.whose("1"), AddressOwner::Deleted);
        let next = read(begun, 3, [declare("q", "2")]);
        assert_eq!((&*entry_of(&next).address, next.deleting.len()), ("2", 1));
        let ended = read(next, 4, [delete("q", "1"), delete("q", "1")]);
        assert_eq!((ended.being_deleted(&q), &*entry_of(&ended).address), (None, "2"));
    }

    #[test]
    fn a_binding_is_of_its_address() {
        let pattern = Pattern::new("b").unwrap();
        let unbind = Record::Unbind { queue: "q".into(), address: "1".into(), pattern };
        let known = known([declare("q", "1"), bind("1", "a.#"), bind("0", "c"), bind("1", "b"), unbind]);
        let entry = entry_of(&known);
        let patterns: Vec<&str> = entry.spec.bindings.iter().map(Pattern::as_str).collect();
        assert_eq!(patterns, ["a.#"]);
        let reached = |key: &str| known.queues.matching(&RoutingKey::new(key).unwrap()).count();
        assert_eq!((reached("a.x"), reached("b"), reached("c")), (1, 0, 0));
    }

    #[test]
    fn a_record_of_a_later_version_is_read_as_far_as_it_is_known() {
        let later = r#"{"op":"declare","queue":"q","address":"1","since":3,
            "spec":{"name":"q","bound":{"max_len":3,"overflow":"reject","unit":"bytes"},"colour":{"name":1}}}"#;
        let mut known = KnownQueues::default();
        known.take(0, later.as_bytes());
        known.take(1, b"not json");
        known.take(2, br#"{"op":"rename","queue":"q"}"#);
        let spec = QueueSpec::new(QueueName::from_static("q")).bound(3, polyqueue::Overflow::Reject);
        assert_eq!((&*entry_of(&known).spec, known.next), (&spec, 3));
    }

    #[test]
    fn a_mark_is_whose_it_is_and_changes_nothing() {
        let mut known = known([declare("q", "1")]);
        let mark = serde_json::to_vec(&Record::Mark { by: "me".into() }).unwrap();
        assert_eq!(known.take(1, &mark), Some("me".into()));
        assert_eq!(known.take(1, &mark), None, "it was read");
        assert_eq!((known.queues.len(), known.next), (1, 2));
    }

    #[test]
    fn only_what_another_stream_knew_and_nobody_deleted_is_lost() {
        let former = || known([begin("s"), declare("q", "1"), declare("r", "2"), declare("t", "3")]);
        let names = |lost: Vec<CatalogueEntry>| -> Vec<String> {
            lost.iter().map(|entry| entry.name().to_string()).collect()
        };
        assert_eq!(names(known([begin("s")]).lost_since(former())), [""; 0], "deleted, and forgotten since");
        assert_eq!(names(known([]).lost_since(former())), ["q", "r", "t"]);
        let other = known([begin("x"), declare("q", "9"), delete("r", "2")]);
        assert_eq!(names(other.lost_since(former())), ["t"]);
        assert_eq!(
            names(known([]).lost_since(known([declare("q", "1")]))),
            ["q"],
            "neither says which it is"
        );
    }

    #[test]
    fn a_snapshot_stands_for_all_before_the_offset_that_it_names() {
        let many = (0..RECORDS).map(|n| declare(&format!("q{}", n % 3), "x"));
        let first = uuid::Builder::from_custom_bytes([7; 16]).into_uuid().simple().to_string();
        let past = [delete("past", &first), delete("past", "random")];
        let begun = [begin("s"), declare("gone", "0"), deleting("gone", "0")];
        let early = known(begun.into_iter().chain(past).chain(many));
        let Some(snapshot) = early.due_snapshot() else { panic!("none is due") };
        let from = early.next;
        // Others have written before it came to the stream.
        let rest = [declare("late", "l"), delete("q1", "x"), snapshot.clone(), declare("last", "z")];
        let whole = read(early, from, rest.clone());
        assert_eq!((whole.from, whole.due_snapshot()), (Some(from), None));
        let short = read(KnownQueues::beginning(Some(from)), from, rest);
        assert!(short.is_whole());
        assert_eq!(
            (short.whose(&first), short.whose("random")),
            (AddressOwner::Deleted, AddressOwner::Nobody)
        );
        assert_eq!((all(&short), &short.deleting), (all(&whole), &whole.deleting));
        assert_eq!((short.stream, short.from, short.next), (whole.stream, whole.from, whole.next));
        assert_eq!(short.queues.len(), 4);
        let wrong = read(KnownQueues::beginning(Some(7)), 7, [snapshot]);
        assert!(!wrong.is_whole(), "it is another's");
    }
}
