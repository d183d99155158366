//! Names of keys: everything that a queue has begins with `<namespace>:{<queue>}`, so that it stands on one cluster node.

use std::sync::Arc;

use polyqueue::QueueName;

/// The prefix of a queue's keys. `{`, `}`, `:` and `%` of its name are escaped: a name that began with `}` would end the
/// hash tag, and no name may look like another's key.
fn prefix(namespace: &str, queue: &QueueName) -> String {
    let mut prefix = format!("{namespace}:{{");
    for c in queue.as_str().chars() {
        match c {
            '{' => prefix.push_str("%7B"),
            '}' => prefix.push_str("%7D"),
            ':' => prefix.push_str("%3A"),
            '%' => prefix.push_str("%25"),
            c => prefix.push(c),
        }
    }
    prefix.push('}');
    prefix
}

/// The hash of all queues: name to what it is declared to be.
pub(crate) fn catalogue(namespace: &str) -> String {
    format!("{namespace}:catalogue")
}

/// The version of the routes: another whenever a topic may reach other queues.
pub(crate) fn version(namespace: &str) -> String {
    format!("{namespace}:ver")
}

/// The set of queues whose routes changed: at which version each did last.
pub(crate) fn changes(namespace: &str) -> String {
    format!("{namespace}:changes")
}

/// What the channel of every inbox begins with.
pub(crate) fn inboxes(namespace: &str) -> String {
    format!("{namespace}:r:")
}

/// The channel on which one handle is woken.
pub(crate) fn channel(namespace: &str, handle: &str) -> String {
    format!("{namespace}:wake:{handle}")
}

/// The channel on which it is said that a queue was deleted.
pub(crate) fn deleted(namespace: &str) -> String {
    format!("{namespace}:deleted")
}

/// How many keys a queue has.
pub(crate) const ALL: usize = 21;
/// Those of scripts that need its streams, what it is declared to be, and its leases.
pub(crate) const TO_LEASES: usize = 12;
/// And who waits, and what expires.
pub(crate) const TO_EXPIRING: usize = 14;
/// And its dedup keys.
pub(crate) const TO_DEDUP: usize = 16;

/// What stands behind the prefix, in the order in which all scripts declare the keys of a queue: `keys.lua` gives names to the
/// same places. Those of the scripts that run most come first, so that these declare no more.
pub(crate) const NAMES: [&str; ALL] = [
    ":s:1", ":s:2", ":s:3", ":s:4", ":s:5", ":s:6", ":s:7", ":s:8", ":s:9", ":s:10", ":q", ":l", ":w", ":x",
    ":k", ":u", ":d", ":b", ":i", ":dlq", ":p",
];

/// All keys of a queue, made once.
#[derive(Clone, Debug)]
pub(crate) struct QueueKeys(Arc<[String; ALL]>);

impl QueueKeys {
    pub(crate) fn new(namespace: &str, queue: &QueueName) -> Self {
        Self::with_prefix(&prefix(namespace, queue))
    }

    /// Of the queue whose keys begin so.
    pub(crate) fn with_prefix(prefix: &str) -> Self {
        Self(Arc::new(NAMES.map(|name| format!("{prefix}{name}"))))
    }

    /// The first so many.
    pub(crate) fn first(&self, count: usize) -> &[String] {
        &self.0[..count]
    }

    /// What all of them begin with.
    pub(crate) fn prefix(&self) -> &str {
        self.queue().strip_suffix(NAMES[10]).unwrap_or_default()
    }

    /// Exists while the queue is declared.
    pub(crate) fn queue(&self) -> &str {
        &self.0[10]
    }

    /// The set of leases.
    pub(crate) fn leases(&self) -> &str {
        &self.0[11]
    }

    /// The set of consumers that wait.
    pub(crate) fn waiters(&self) -> &str {
        &self.0[12]
    }

    /// The stream of dead letters.
    pub(crate) fn dead(&self) -> &str {
        &self.0[19]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> String {
        prefix("ns", &QueueName::new(name).unwrap())
    }

    #[test]
    fn the_hash_tag_is_the_whole_name() {
        for (name, key) in [
            ("mail", "ns:{mail}"),
            ("}x", "ns:{%7Dx}"),
            ("{}", "ns:{%7B%7D}"),
            ("a:b", "ns:{a%3Ab}"),
            ("%7D", "ns:{%257D}"),
            ("é-队列-😀", "ns:{é-队列-😀}"),
            ("../..", "ns:{../..}"),
        ] {
            assert_eq!(of(name), key);
        }
    }

    #[test]
    fn no_two_names_share_a_prefix() {
        let names = ["}", "%7D", "%257D", "a", "A", "a:s", "a}:s", "{a}", "catalogue"];
        let prefixes: std::collections::HashSet<String> = names.into_iter().map(of).collect();
        assert_eq!(prefixes.len(), names.len());
        assert!(!prefixes.contains(&catalogue("ns")) && !prefixes.contains(&version("ns")));
    }
}
