//! One message queue contract for several brokers.
//!
//! A handler is `async fn(Job<T>) -> Result<(), Failure>`:
//!
//! ```
//! use polyqueue::{Failure, Job, Payload, QueueExt, QueueName, QueueSpec, Worker, connect_from_env};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Welcome { user: String }
//!
//! impl Payload for Welcome { const KIND: &'static str = "welcome"; }
//!
//! async fn welcome(job: Job<Welcome>) -> Result<(), Failure> {
//!     println!("welcome, {}", job.payload.user);
//!     Ok(())
//! }
//!
//! const MAIL: QueueName = QueueName::from_static("mail");
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // memory, unless MESSAGE_QUEUE_PROVIDER says otherwise; beside it stand polyqueue_redis::PROVIDER and others.
//!     let queue = connect_from_env(&[polyqueue_memory::PROVIDER]).await?;
//!     queue.declare(&QueueSpec::new(MAIL)).await?;
//!     queue.send(MAIL, &Welcome { user: "Ada".into() }).await?;
//!
//!     let stop = async { /* tokio::signal::ctrl_c() */ };
//!     Worker::new(queue).on(welcome).run([MAIL], stop).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Urgent, later, again
//! A [`Message`] is an envelope around opaque bytes. [`Message::of`] makes one of a typed [`Payload`], [`Message::json`] of any value; what the
//! sender may choose has a `with_…` method. [`QueueExt::send`] is for a payload as it is, [`QueueExt::publish_one`] for a message
//! of your own, [`Queue::publish`] for many at once.
//!
//! ```
//! # use polyqueue::*;
//! # use std::time::Duration;
//! # const MAIL: QueueName = QueueName::from_static("mail");
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! # let queue = connect(&[polyqueue_memory::PROVIDER], ConnectOptions::new("memory://tour")).await?;
//! # queue.declare(&QueueSpec::new(MAIL)).await?;
//! queue.publish_one(MAIL, Message::new("whenever").with_priority(Priority::LOWEST)).await?;
//! queue.publish_one(MAIL, Message::new("in an hour").with_delay(Duration::from_secs(3600))).await?;
//! queue.publish_one(MAIL, Message::new("now").with_priority(Priority::HIGHEST)).await?;
//!
//! let consumer = queue.subscribe(&Subscription::new(MAIL)).await?;
//! let first = consumer.receive(1, Duration::ZERO).await?.remove(0);
//! assert_eq!(first.message.payload(), "now");
//!
//! // Whoever receives owes a verdict, before the lease ends.
//! let busy = Verdict::retry(Duration::from_secs(1), "mail server down");
//! consumer.settle(&[(first.receipt, busy)]).await?;
//! assert_eq!(queue.stats(&MAIL).await?.delayed, Some(2));
//! # Ok(()) }
//! ```
//!
//! # When it fails
//! A [`Worker`] makes verdicts of what handlers return: see the table there, [`Failure`] for what a handler can say, and
//! [`RetryPolicy`] for the waits. After its last attempt a message becomes a [`DeadLetter`], which is kept until somebody
//! redrives or discards it:
//!
//! ```
//! # use polyqueue::*;
//! # use std::time::Duration;
//! # const MAIL: QueueName = QueueName::from_static("mail");
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! # let queue = connect(&[polyqueue_memory::PROVIDER], ConnectOptions::new("memory://dead")).await?;
//! # queue.declare(&QueueSpec::new(MAIL)).await?;
//! # queue.publish_one(MAIL, Message::new("hello")).await?;
//! # let consumer = queue.subscribe(&Subscription::new(MAIL)).await?;
//! # let first = consumer.receive(1, Duration::ZERO).await?.remove(0);
//! # consumer.settle(&[(first.receipt, Verdict::reject("no such user"))]).await?;
//! let rejected = DeadFilter::all().reason(DeadReason::Rejected);
//! for letter in queue.dead_letters(&MAIL, &rejected, Page::first(10)).await?.dead_letters {
//!     println!("{} died of {:?} after {} attempts", letter.id, letter.error, letter.attempts);
//! }
//! let redriven = queue.redrive_where(&MAIL, &rejected, RedriveOptions::default().per_second(100)).await?;
//! assert_eq!(redriven, 1);
//! # Ok(()) }
//! ```
//!
//! # Promises
//! Delivery is *at least once*: a message for which `publish` said Ok ends acknowledged, or as a dead letter, or by an
//! operator's hand; handlers may see it more than once. Priority is strict: what a consumer holds is in the hands of a
//! handler. Time is the broker's. Every call ends by a deadline. An error says
//! [whether to try again](Error::is_transient) and [whether the effect may have happened](Error::certainty). All backends
//! promise the same; an option that one cannot honour is refused, never ignored.
//!
//! # The contract, and what stands on top of it
//! The **contract** is what a backend implements and all that it needs to read: two traits without default methods,
//! [`Queue`] with its [`Consumer`] for applications and [`Admin`] for operators, and the values that they exchange.
//! **On top of the contract** stands what is written once, for any backend. The contract never uses it.
//!
//! | concept | file |
//! |---|---|
//! | publish, reschedule, subscribe, receive, settle, extend, health | `queue.rs`, `delivery.rs`, `reschedule.rs`, `health.rs` |
//! | queues, counts, purge | `admin.rs`, `counters.rs` |
//! | the envelope | `message.rs`, `id.rs`, `priority.rs`, `parts.rs` |
//! | payloads as JSON | `payload.rs`, `json.rs`, `finite.rs` |
//! | dead letters, filters, pages | `dead_letter.rs` |
//! | names, routing keys and patterns, where to send | `name.rs`, `topic.rs`, `destination.rs`, `text.rs` |
//! | what is declared: bindings, bounds, retention, dedup | `spec.rs`, `dedup.rs`, `dedup_store.rs`, `millis.rs`, `named.rs` |
//! | what is subscribed to, what a backend says of itself and of its life | `subscription.rs`, `info.rs`, `event.rs`, `lifecycle.rs` |
//! | where replies come in | `inbox.rs` |
//! | the largest values | `limits.rs` |
//! | waits between attempts, instants far away | `retry.rs`, `later.rs` |
//! | what a handler can say, and errors that stay | `failure.rs`, `permanent.rs` |
//! | errors, their causes, and what they show of a URL | `error.rs`, `invalid.rs`, `causes.rs`, `redacted.rs`, `place.rs` |
//! | *for who writes a backend* | `backend/` |
//! | *on top of the contract:* send one, redrive and discard by filter | `ext.rs` |
//! | ask and await the answer | `requester.rs` |
//! | the worker's settings | `worker.rs` |
//! | handlers, their options, turns and pace, responders, jobs, leases, deaths | `worker/{handler,handlers,job_fn,blocking,options,turn,pace,release_rate,responder,job,lease,death}.rs` |
//! | which handler, and what none knows | `worker/{route,unknown}.rs` |
//! | look up, decode, handle, judge | `worker/execute.rs` |
//! | fetch while there is room; stop in order | `worker/{plan,run,served,fetch,drain}.rs` |
//! | verdicts in batches, again after a failure | `worker/settle.rs` |
//! | choosing a backend, and how to connect | `provider.rs`, `tls_options.rs` |
//! | wrapping a queue | `layer.rs` |
//! | pointers to what implements the contract | `pointers.rs` |

mod admin;
pub mod backend;

mod background;
mod causes;
mod counters;
mod dead_letter;
mod dedup;
mod dedup_store;
mod delivery;
mod destination;
mod error;
mod event;
mod ext;
mod failure;
mod finite;
mod health;
mod id;
mod inbox;
mod info;
mod invalid;
mod json;
mod later;
mod layer;
mod lazy;
mod lifecycle;
mod limits;
mod message;
mod millis;
mod name;
mod named;
mod parts;
mod payload;
mod permanent;
mod place;
mod pointers;
mod priority;
mod provider;
mod queue;
mod redacted;
mod requester;
mod reschedule;
mod retry;
mod spec;
mod subscription;
mod text;
mod tls_options;
mod topic;
mod worker;

pub use admin::{Admin, Purge, QueueStats};
pub use counters::Counters;
pub use dead_letter::{Cursor, DeadBody, DeadFilter, DeadId, DeadLetter, DeadPage, DeadReason, Page};
pub use dedup::{Dedup, DedupUntil};
pub use dedup_store::{DedupKey, DedupStore};
pub use delivery::{Delivery, Extended, Receipt, Refusal, Settled, Verdict};
pub use destination::{Destination, IntoDestination, ReplyAddress};
pub use error::{BoxError, Certainty, Error, ErrorCause, Result};
pub use event::{Event, Events};
pub use ext::{QueueExt, RedriveOptions};
pub use failure::Failure;
pub use health::Health;
pub use id::{MAX_ID_BYTES, MessageId};
pub use inbox::Inbox;
pub use info::Info;
pub use invalid::Invalid;
pub use layer::Layer;
pub use limits::Limits;
pub use message::Message;
pub use name::{MAX_NAME_BYTES, QueueName};
pub use parts::MAX_ERROR_BYTES;
pub use payload::Payload;
pub use permanent::Permanent;
pub use priority::Priority;
pub use provider::{
    ConnectOptions, Connecting, NAMESPACE_VAR, PROVIDER_VAR, Provider, connect, connect_from_env, from_env,
};
pub use queue::{Consumer, Published, Queue};
pub use requester::{REMOTE_ERROR_KIND, Requester};
pub use reschedule::Reschedule;
pub use retry::{Backoff, RetryPolicy};
pub use spec::{Bound, Overflow, QueueSpec, Retention};
pub use subscription::{DEFAULT_MAX_ATTEMPTS, Subscription};
pub use tls_options::TlsOptions;
pub use topic::{MAX_KEY_BYTES, Pattern, RoutingKey};
pub use worker::{
    Blocking, DeadLetterHook, Death, Handler, HandlerOptions, Job, Lease, Report, Responder, Unknown,
    Versions, With, Worker, blocking, with,
};

pub use async_trait::async_trait;
pub use bytes::Bytes;
/// The crate of the times in this one's values, of the version that fits them.
pub use chrono;
