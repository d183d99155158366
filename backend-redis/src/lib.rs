//! [`polyqueue`] on Redis Streams: ten streams, a set of leases and a few scripts for each queue.
//!
//! ```no_run
//! # async fn run() -> polyqueue::Result<()> {
//! let queue = polyqueue::connect(
//!     &[polyqueue_redis::PROVIDER],
//!     polyqueue::ConnectOptions::new("redis://127.0.0.1:6379"),
//! )
//! .await?;
//! # Ok(()) }
//! ```
//!
//! Needs one Redis 7.0 (or Valkey 7.2) or later, with `maxmemory-policy noeviction` (or `volatile-…`, which may evict large
//! replies) and, for messages that survive the end
//! of the server's process, its append-only file. The [wire format] describes the keys and fields.
//!
//! [wire format]: https://github.com/polyqueue/polyqueue/blob/main/docs/wire-format.md
//!
//! # The URL
//! `redis://[[user]:password@]host[:port][/database][?allow_eviction=true]`. With `allow_eviction=true` a server that may
//! evict keys is accepted: it can lose messages.
//!
//! `rediss://` is the same, encrypted by TLS 1.2 or 1.3, and needs the feature `tls` (off by default; without it the URL is
//! [`Unsupported`](polyqueue::Error::Unsupported)). It never falls back to plain bytes. Its parameters, or
//! [`TlsOptions`](polyqueue::TlsOptions), which say the same:
//!
//! | parameter | meaning |
//! |---|---|
//! | `ca=FILE` | the certificates in PEM that are trusted, and no others; without it, those that this machine trusts |
//! | `cert=FILE`, `key=FILE` | this client's certificate and its private key, for a server that requires one |
//! | `server_name=NAME` | what the server's certificate must be for, where it is not the URL's host |
//!
//! A file that cannot be used is [`Invalid`](polyqueue::Error::Invalid) before anything is dialled; a certificate that one side
//! does not accept is [`Denied`](polyqueue::Error::Denied) and says why. The files are read anew for each connection.
//!
//! `redis+unix:///path/of/socket[?database=NUMBER][&user=USER][&password=PASSWORD][&allow_eviction=true]` is a socket of this
//! machine.
//!
//! A user with restricted rights needs the keys `<namespace>:*`, the channels `<namespace>:*`, and the commands `+@read +@write
//! +@pubsub +@scripting +@connection +info +time`; [`diagnose`] asks `config|get`, too, and says so where it may not.
//!
//! # How a handle works
//! It has two connections, one to ask on and one on which the server tells; both are made again whenever one of them fails,
//! with backoff. Publishes and verdicts that come while a call is under way leave together in the next one. A blocked `receive`
//! costs one command every five seconds, an idle inbox none; a handle that has declared or reads queues looks every three to four
//! whether they are there. Nothing is ever buffered: [`prefetch`](polyqueue::Subscription::prefetch) only bounds how many unsettled
//! messages a consumer holds, so that priority stays strict whatever it is set to.
//!
//! # One message's walk through the rooms
//!
//! | it is | in |
//! |---|---|
//! | published | `publish/dispatch` → `publish/batch`, or `publish/fan_out` for a topic → `publish_plain.lua`, `publish.lua` or `topic.lua` |
//! | delayed | a sorted set, until `library.lua` |
//! | handed out | `consume/fetcher` → `claim.lua`, or `consume/pushed` for one that waited |
//! | retried | `settle/verdicts` → `settle/batch` → `settle.lua` |
//! | dead | `library.lua` |
//! | redriven | `dead/redrive` → `redrive.lua` |

mod address;
mod admin;
mod connection;
mod consume;
mod dead;
mod inbox;
mod publish;
mod queue;
mod scripts;
mod settle;
#[cfg(test)]
mod tests;
mod topology;
mod wire;

use address::NAME;

pub use admin::diagnosis::{Diagnosis, diagnose};

/// Redis: schemes `redis`, `rediss` (with the feature `tls`) and `redis+unix`, variable `REDIS_URL`.
pub const PROVIDER: polyqueue::Provider = polyqueue::Provider::new(
    NAME,
    &["redis", "rediss", "redis+unix"],
    "REDIS_URL",
    "redis://127.0.0.1:6379",
    |options| Box::pin(queue::connect(options)),
);
