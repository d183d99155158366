//! The scripts that the server runs: Lua files, put together from parts and named by their hash. A line `--- @include PART`
//! stands for the file of that name, wherever it is: what a script needs only sometimes, it defines only then.

use std::sync::LazyLock;

use crate::wire::names;
use crate::wire::request::Script;

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $flags:literal, $file:literal, $keys:expr) => {
        $(#[$doc])*
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = include_str!(concat!("", $file, ".lua"));
            Script::new(format!("#!lua{}\n{}", $flags, assembled(text)), $keys)
        });
    };
}

script!(
    /// Makes or changes a queue. Refused by a full server.
    DECLARE, "", "declare", names::ALL);
script!(
    /// What the user may not do.
    RIGHTS, " flags=no-writes", "rights", 0);
script!(
    /// Does nothing. Refused by a server that takes no messages.
    WRITABLE, "", "writable", 0);
script!(
    /// Reads the catalogue, or what has changed in it.
    ROUTES, " flags=no-writes", "routes", 0);
script!(
    /// Looks at what queues are declared to be, and at whether they are there.
    LOOK, " flags=no-writes,allow-oom", "look", 0);
script!(
    /// Stores messages that need no thought. Refused by a full server.
    PUBLISH_PLAIN, "", "publish_plain", names::TO_EXPIRING);
script!(
    /// Stores messages. Refused by a full server; all that take messages out work there, so that it can be drained.
    PUBLISH, "", "publish", names::ALL);
script!(
    /// Stores messages in all queues that they go to. Refused by a full server.
    TOPIC, "", "topic", names::ALL);
script!(
    /// Whether there is room.
    SPACE, " flags=allow-oom", "space", names::ALL);
script!(
    /// Hands out messages under a lease, after applying what is due.
    CLAIM, " flags=allow-oom", "claim", names::ALL);
script!(
    /// Applies verdicts that are all acks.
    ACK, " flags=allow-oom", "ack", names::TO_DEDUP);
script!(
    /// Applies verdicts.
    SETTLE, " flags=allow-oom", "settle", names::ALL);
script!(
    /// Renews leases.
    EXTEND, " flags=allow-oom", "extend", names::TO_LEASES);
script!(
    /// Applies what is due.
    APPLY, " flags=allow-oom", "apply", names::ALL);
script!(
    /// Counts.
    STATS, " flags=allow-oom", "stats", names::ALL);
script!(
    /// Removes ready, delayed or dead messages.
    PURGE, " flags=allow-oom", "purge", names::ALL);
script!(
    /// Makes dead letters ready again.
    REDRIVE, " flags=allow-oom", "redrive", names::ALL);
script!(
    /// Changes when a delayed message becomes ready, or removes it.
    RESCHEDULE, " flags=allow-oom", "reschedule", names::ALL);
script!(
    /// Removes dead letters.
    DISCARD, " flags=allow-oom", "discard", names::ALL);
script!(
    /// Removes a queue.
    DELETE, " flags=allow-oom", "delete", names::ALL);

/// What several scripts need.
const PARTS: [(&str, &str); 13] = [
    ("keys", include_str!("keys.lua")),
    ("time", include_str!("time.lua")),
    ("notify", include_str!("notify.lua")),
    ("unread", include_str!("unread.lua")),
    ("used", include_str!("used.lua")),
    ("cursor", include_str!("cursor.lua")),
    ("sets", include_str!("sets.lua")),
    ("renew", include_str!("renew.lua")),
    ("push", include_str!("push.lua")),
    ("library", include_str!("library.lua")),
    ("version", include_str!("version.lua")),
    ("changes", include_str!("changes.lua")),
    ("placing", include_str!("placing.lua")),
];

/// A text with its parts in place; a part that is none stays a comment.
fn assembled(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for line in text.lines() {
        let name = line.trim_start().strip_prefix("--- @include ");
        match name.and_then(|name| PARTS.iter().find(|(part, _)| *part == name)) {
            Some((_, part)) => whole.push_str(&assembled(part)),
            None => {
                whole.push_str(line);
                whole.push('\n');
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [&'static Script; 20] {
        [
            &DECLARE,
            &RIGHTS,
            &WRITABLE,
            &ROUTES,
            &LOOK,
            &PUBLISH_PLAIN,
            &PUBLISH,
            &TOPIC,
            &SPACE,
            &CLAIM,
            &ACK,
            &SETTLE,
            &EXTEND,
            &APPLY,
            &STATS,
            &PURGE,
            &REDRIVE,
            &RESCHEDULE,
            &DISCARD,
            &DELETE,
        ]
    }

    #[test]
    fn every_part_is_found() {
        for script in all() {
            assert!(!script.text().contains("@include"), "{}", script.text());
        }
    }

    #[test]
    fn whether_each_command_may_be_run_is_asked() {
        for script in all() {
            let calls = script.text().split("redis.call('").skip(1);
            let calls = calls.chain(script.text().split("redis.pcall('").skip(1));
            for command in calls.filter_map(|call| call.split('\'').next()) {
                assert!(RIGHTS.text().contains(&format!("{{ '{command}'")), "{command}");
            }
        }
    }

    /// The order of a queue's keys is written twice.
    #[test]
    fn lua_and_rust_name_the_same_keys() {
        let lines = PARTS[0].1.lines().filter_map(|line| line.strip_prefix("local ")?.split_once(" = "));
        let named = lines.filter_map(|(_, rest)| rest.split_once(" -- "));
        let mut count = 10;
        for (position, name) in named {
            let position: usize = position.parse().unwrap();
            assert_eq!(names::NAMES[position - 1], format!(":{name}"));
            count += 1;
        }
        assert_eq!(count, names::ALL);
        assert!(PARTS[0].1.ends_with(&format!("local ALL = {}\n", names::ALL)));
        for p in 1..=10 {
            assert_eq!(names::NAMES[p - 1], format!(":s:{p}"));
        }
    }
}
