//! The RabbitMQ backend of polyqueue: RabbitMQ 3.10 or newer, without plugins.
//!
//! ```no_run
//! # async fn example() -> polyqueue::Result<()> {
//! use polyqueue::{ConnectOptions, QueueName};
//!
//! let options = ConnectOptions::new("amqp://guest:guest@127.0.0.1:5672/%2f");
//! let queue = polyqueue_rabbitmq::PROVIDER.connect(options).await?;
//! queue.declare(&QueueName::from_static("mail").into()).await?;
//! # Ok(()) }
//! ```
//!
//! Each queue is one classic queue of the broker with ten strict priorities, and one for its dead letters. Delayed
//! messages wait in queues by when they are due, and a client that lives moves what is. Messages to topics go through one topic exchange. What is on the broker is described in
//! the [wire format], so that programs in other languages can take part.
//!
//! [wire format]: https://github.com/polyqueue/polyqueue/blob/main/docs/wire-format.md
//!
//! # The URL
//! `amqp://[user:password@]host[:port][/vhost][?queue_type=auto|classic]`. The two queue types mean the same today.
//!
//! `amqps://` is the same, encrypted by TLS 1.2 or 1.3, at port 5671 unless said, and needs the feature `tls` (off by default;
//! without it the URL is [`Unsupported`](polyqueue::Error::Unsupported)). It never falls back to plain bytes. Its parameters,
//! or [`TlsOptions`](polyqueue::TlsOptions), which say the same:
//!
//! | parameter | meaning |
//! |---|---|
//! | `ca=FILE` | the certificates in PEM that are trusted, and no others; without it, those that this machine trusts |
//! | `cert=FILE`, `key=FILE` | this client's certificate and its private key, for a broker that requires one |
//! | `server_name=NAME` | what the broker's certificate must be for, where it is not the URL's host |
//!
//! A file that cannot be used is [`Invalid`](polyqueue::Error::Invalid) before anything is dialled; a certificate that one side
//! does not accept is [`Denied`](polyqueue::Error::Denied) and says why. The files are read anew for each connection.
//!
//! # What differs from the other backends
//! * Delayed messages come only while a client of this library that delays or consumes is alive in the virtual host.
//! * `delayed`, `in_flight` and `oldest` of [`QueueStats`](polyqueue::QueueStats) are `None`: AMQP cannot be asked. A purge
//!   spares delayed messages.
//! * `DropOldest` and `reschedule` are `Unsupported`.
//! * A message that expires behind others of its queue, or after it was delayed, counts as ready until it comes to the front
//!   or to a consumer. It is never handed out.
//! * Each dedup key is a queue of the broker; give many keys a [`DedupStore`](polyqueue::DedupStore). A key whose publish had
//!   an unknown end is taken until its window ends.
//! * A receipt dies with its connection: afterwards it is `LeaseLost`, and the message comes again.
//! * Acks younger than a second may be undone by a crash of the broker. It counts no attempt of anybody's.
//! * No lease outlives the broker's `consumer_timeout`, 30 minutes unless configured, which it tells only when it ends a consumer
//!   for it: then [`LeaseLimited`](polyqueue::Event::LeaseLimited) says so, and `health`. [`hold_limit`] finds it out before.
//! * Looking at dead letters hides them from others, and from `stats`, while it lasts.
//!
//! # Logs
//! The client library logs on its own account, under `lapin`: a question whether something exists that does not is an
//! error there, and a message that came back from a queue which was just deleted is logged with its payload. Turn
//! that target off where payloads must not be logged.
//!
//! # One message's walk through the rooms
//!
//! | it is | in |
//! |---|---|
//! | published | `queue` → `publish/dispatch` → `publish/topic` or `publish/fan_out` → `connection/publisher` → `connection/confirms` |
//! | delayed | `delay/request` → `delay/active` → `delay/moves` |
//! | handed out | `consume/source` → `consume/triage` → `consume/buffer` |
//! | retried | `settle/republish` → `settle/acks` |
//! | dead | `settle/republish` → `dead/retention` |
//! | redriven | `dead/listing` |

mod address;
mod admin;
mod connection;
mod consume;
mod dead;
mod delay;
mod inbox;
mod publish;
mod queue;
mod queue_type;
mod settle;
#[cfg(test)]
mod tests;
mod topology;
mod wire;

use std::sync::Arc;

use address::NAME;
pub use admin::delays::Delays;
pub use admin::diagnosis::{Diagnosis, diagnose};
pub use admin::hold::hold_limit;
use polyqueue::{ConnectOptions, Connecting, Provider, Queue};

/// RabbitMQ, for URLs that begin with `amqp://`, or with `amqps://` where the feature `tls` is on; the URL stands in `RABBITMQ_URL`.
pub const PROVIDER: Provider =
    Provider::new(NAME, &["amqp", "amqps"], "RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672/%2f", connect);

fn connect(options: ConnectOptions) -> Connecting {
    Box::pin(async move { Ok(Arc::new(queue::RabbitQueue::connect(options).await?) as Arc<dyn Queue>) })
}
