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
//! Needs one Redis 7.0 (or Valkey 7.2) or later, with `maxmemory-policy noeviction` and, for messages that survive the end
//! of the server's process, its append-only file. `docs/wire-format.md` describes the keys and fields.
//!
//! # The URL
//! `redis://[user][:password]@host[:port][/database][?allow_eviction=true]`. With `allow_eviction=true` a server that may
//! evict keys is accepted: it can lose messages. TLS is not built in: `rediss://` is
//! [`Unsupported`](polyqueue::Error::Unsupported).
//!
//! A user with restricted rights needs the keys `<namespace>:*`, the channels `<namespace>:*`, and the commands `+@read +@write
//! +@pubsub +@scripting +@connection +info +time`.
//!
//! # How a handle works
//! It has two connections, one to ask on and one on which the server tells; both are made again whenever one of them fails,
//! with backoff. Publishes and verdicts that come while a call is under way leave together in the next one. A blocked `receive`
//! costs one command every five seconds, an idle inbox none. Nothing is ever buffered: [`prefetch`](polyqueue::Subscription::prefetch) only bounds how many unsettled
//! messages a consumer holds, so that priority stays strict whatever it is set to.

mod address;
mod admin;
mod catalogue;
mod claim;
mod codec;
mod consumer;
mod declare;
mod given;
mod hub;
mod inbox;
mod keys;
mod letters;
mod link;
mod packed;
mod patience;
mod placed;
mod publish;
mod publisher;
mod pump;
mod queue;
mod receipt;
mod scripts;
mod settler;
mod time;
mod topics;
mod wakers;

/// Redis: schemes `redis` and `rediss` (which is refused with what to do), variable `REDIS_URL`.
pub const PROVIDER: polyqueue::Provider =
    polyqueue::Provider::new(NAME, &["redis", "rediss"], "REDIS_URL", "redis://127.0.0.1:6379", |options| {
        Box::pin(queue::connect(options))
    });

const NAME: &str = "redis";
