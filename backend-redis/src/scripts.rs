//! The scripts that the server runs: Lua files, put together from parts and named by their hash.

use std::sync::LazyLock;

use crate::link::Script;

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $flags:literal, [$($part:literal),+]) => {
        $(#[$doc])*
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!("#!lua", $flags, "\n", $(include_str!(concat!("scripts/", $part, ".lua"))),+))
        });
    };
}

script!(
    /// Makes or changes a queue. Refused by a full server.
    DECLARE, "", ["declare"]);
script!(
    /// Reads the catalogue.
    ROUTES, " flags=no-writes", ["routes"]);
script!(
    /// Stores messages that need no thought. Refused by a full server.
    PLAIN, "", ["wake", "unread", "used", "handover", "plain"]);
script!(
    /// Stores messages. Refused by a full server; all that take messages out work there, so that it can be drained.
    PUBLISH, "",
    ["time", "wake", "rules", "entry", "dedup", "letters", "store", "due", "cursor", "room", "unread", "used",
        "handover", "target", "place", "publish"]);
script!(
    /// Stores messages in all queues that they go to. Refused by a full server.
    TOPIC, "",
    ["time", "wake", "rules", "entry", "dedup", "letters", "store", "due", "cursor", "room", "unread", "used",
        "handover", "target", "place", "topic"]);
script!(
    /// Whether there is room.
    SPACE, " flags=allow-oom",
    ["time", "wake", "rules", "entry", "dedup", "letters", "store", "due", "cursor", "room", "unread", "used",
        "handover", "target", "space"]);
script!(
    /// Hands out messages under a lease, after applying what is due.
    CLAIM, " flags=allow-oom",
    ["time", "wake", "rules", "entry", "dedup", "letters", "store", "due", "unread", "claim"]);
script!(
    /// Applies verdicts.
    SETTLE, " flags=allow-oom", ["time", "wake", "rules", "entry", "dedup", "letters", "store", "settle"]);
script!(
    /// Renews leases.
    EXTEND, " flags=allow-oom", ["time", "extend"]);
script!(
    /// Applies what is due.
    APPLY, " flags=allow-oom",
    ["time", "wake", "rules", "entry", "dedup", "letters", "store", "due", "apply"]);
script!(
    /// Counts.
    STATS, " flags=allow-oom",
    ["time", "wake", "rules", "entry", "dedup", "letters", "store", "due", "cursor", "stats"]);
script!(
    /// Removes ready, delayed or dead messages.
    PURGE, " flags=allow-oom",
    ["time", "rules", "entry", "dedup", "letters", "store", "due", "cursor", "purge"]);
script!(
    /// Makes dead letters ready again.
    REDRIVE, " flags=allow-oom",
    ["time", "wake", "rules", "entry", "dedup", "letters", "store", "redrive"]);
script!(
    /// Changes when a delayed message becomes ready, or removes it.
    RESCHEDULE, " flags=allow-oom", ["time", "wake", "rules", "entry", "dedup", "store", "reschedule"]);
script!(
    /// Removes dead letters.
    DISCARD, " flags=allow-oom", ["discard"]);
script!(
    /// Removes a queue.
    DELETE, " flags=allow-oom", ["wake", "delete"]);
