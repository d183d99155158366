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
    /// Makes a queue. Refused by a full server.
    DECLARE, "", ["declare"]);
script!(
    /// Stores messages. Refused by a full server; all others work there, so that it can be drained.
    PUBLISH, "", ["time", "wake", "publish"]);
script!(
    /// Hands out messages under a lease, after applying what is due.
    CLAIM, " flags=allow-oom", ["time", "wake", "entry", "due", "claim"]);
script!(
    /// Applies verdicts.
    SETTLE, " flags=allow-oom", ["time", "wake", "entry", "settle"]);
script!(
    /// Renews leases.
    EXTEND, " flags=allow-oom", ["time", "extend"]);
script!(
    /// Applies what is due.
    APPLY, " flags=allow-oom", ["time", "wake", "entry", "due", "apply"]);
script!(
    /// Counts.
    STATS, " flags=allow-oom", ["time", "wake", "entry", "due", "cursor", "stats"]);
script!(
    /// Removes ready, delayed or dead messages.
    PURGE, " flags=allow-oom", ["time", "entry", "due", "cursor", "purge"]);
script!(
    /// Makes dead letters ready again.
    REDRIVE, " flags=allow-oom", ["wake", "entry", "redrive"]);
script!(
    /// Removes dead letters.
    DISCARD, " flags=allow-oom", ["discard"]);
script!(
    /// Removes a queue.
    DELETE, " flags=allow-oom", ["wake", "delete"]);
