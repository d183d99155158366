//! Entries of our streams that no reader could make a message of.

use std::collections::BTreeMap;

use bytes::Bytes;
use polyqueue::{Priority, QueueName};
use redis::cmd;

use crate::connection::single::Single;
use crate::wire::codec::{Fields, read};
use crate::wire::names::{self, QueueKeys};

/// So many entries are looked at in each stream, the oldest first …
const ENTRIES: usize = 1_000;
/// … of so many queues.
const QUEUES: usize = 200;
/// A queue has one stream for each priority.
const STREAMS: usize = 10;

type Entry = (String, Vec<(Bytes, Bytes)>);

/// How many there are in each queue that has some.
pub(super) async fn unreadable(
    server: &mut Single,
    namespace: &str,
) -> Result<BTreeMap<QueueName, u64>, String> {
    let names: Vec<String> = server.ask(cmd("HKEYS").arg(names::catalogue(namespace))).await?;
    let queues = names.iter().filter_map(|name| QueueName::new(name.as_str()).ok());
    let mut found = BTreeMap::new();
    for queue in queues.take(QUEUES) {
        let mut count = 0;
        for stream in QueueKeys::new(namespace, &queue).first(STREAMS) {
            let mut range = cmd("XRANGE");
            range.arg(stream).arg("-").arg("+").arg("COUNT").arg(ENTRIES);
            let entries: Vec<Entry> = server.ask(&range).await?;
            count += entries.into_iter().filter(|entry| !is_readable(entry)).count() as u64;
        }
        if count > 0 {
            found.insert(queue, count);
        }
    }
    Ok(found)
}

/// An entry's priority is its stream's: any will do to read it.
fn is_readable((id, fields): &Entry) -> bool {
    read(&Fields::from_pairs(fields.clone()), id, Priority::default()).is_ok()
}
