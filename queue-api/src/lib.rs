//! One message queue contract for several brokers.
//!
//! A handler is `async fn(Job<T>) -> Result<(), Failure>`.

mod admin;
mod counters;
mod dead_letter;
mod error;
mod ext;
mod layer;
mod limits;
mod message;
mod name;
mod provider;
mod queue;
mod retry;
mod spec;
mod worker;

pub use admin::{Admin, Health, Purge, QueueStats};
pub use counters::{Counters, Meter, QueueMeter};
pub use dead_letter::{Cursor, DeadBody, DeadFilter, DeadId, DeadLetter, DeadPage, DeadReason, Page};
pub use error::{BoxError, Certainty, Error, Result, Source};
pub use ext::{QueueExt, RedriveOptions};
pub use layer::Layer;
pub use limits::Limits;
pub use message::{MAX_ERROR_BYTES, MAX_ID_BYTES, Message, MessageId, Parts, Payload, Priority, cut_error};
pub use name::{Destination, MAX_NAME_BYTES, QueueName};
pub use provider::{
    ConnectOptions, Connecting, NAMESPACE_VAR, PROVIDER_VAR, Provider, connect, connect_from_env, from_env,
    redacted,
};
pub use queue::{Consumer, Delivery, Extended, Published, Queue, Receipt, Refusal, Settled, Verdict};
pub use retry::{Backoff, Failure, RetryPolicy};
pub use spec::{DEFAULT_MAX_ATTEMPTS, Info, QueueSpec, Subscription};
pub use worker::{DeadLetterHook, Death, Handler, Job, Lease, Report, Versions, With, Worker, with};

pub use async_trait::async_trait;
pub use bytes::Bytes;
