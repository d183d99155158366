//! Names of keys: everything that a queue has begins with `<namespace>:{<queue>}`, so that it stands on one cluster node.

use polyqueue::QueueName;

/// The prefix of a queue's keys. `{`, `}`, `:` and `%` of its name are escaped: a name that began with `}` would end the
/// hash tag, and no name may look like another's key.
pub(crate) fn prefix(namespace: &str, queue: &QueueName) -> String {
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

/// What the channel of every inbox begins with.
pub(crate) fn inboxes(namespace: &str) -> String {
    format!("{namespace}:r:")
}

/// The channel on which one handle is woken.
pub(crate) fn channel(namespace: &str, handle: &str) -> String {
    format!("{namespace}:wake:{handle}")
}

/// Exists while the queue is declared.
pub(crate) fn marker(prefix: &str) -> String {
    format!("{prefix}:q")
}

/// The set of consumers that wait.
pub(crate) fn waiters(prefix: &str) -> String {
    format!("{prefix}:w")
}

/// The stream of dead letters.
pub(crate) fn dead(prefix: &str) -> String {
    format!("{prefix}:dlq")
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
