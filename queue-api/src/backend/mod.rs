//! For who writes a backend: what is the same over any broker, written once.
//!
//! | for | type |
//! |---|---|
//! | where the broker is, with nothing ignored | [`BrokerUrl`], [`Login`], [`SocketUrl`] |
//! | encrypted streams, and what a refused certificate means | [`TlsClient`], [`tls_refusal`], [`TLS_PARAMETERS`], [`ByteStream`] |
//! | a call that ends in time | [`Deadline`], [`later`] |
//! | a handle that is open, closing, idle | [`Lifecycle`], [`Entered`], [`CloseReason`] |
//! | receives that wait for messages | [`PendingReceives`], [`Receive`], [`Demand`] |
//! | what was handed out, until a verdict or the end of its lease | [`LeaseTable`], [`Begin`] |
//! | connections that need no thread of the application | [`background`] |
//! | calls that nobody answers | [`OpenCalls`], [`OpenCall`] |
//! | calls that the broker refuses, and publishes that it blocks | [`Refusals`], [`PublishBlock`] |
//! | consumers that stand still | [`ProgressWatch`], [`Receiving`] |
//! | items of many callers in few calls | [`Batcher`], [`BatchCall`] |
//! | messages that name the time when they become ready | [`begin_delays`] |
//! | replies that wait for their reader | [`ReplyBuffer`] |
//! | what happened without anybody asking | [`EventSender`] |
//! | many clients that must not act in one instant | [`Jitter`], [`wait_to_reconnect`] |
//! | a catalogue that later versions write, too | [`stored_spec`] |
//! | a receipt that says when its lease began and ends | [`ReceiptTimes`] |
//! | answers that every backend words alike | [`not_found_if_all`], [`no_dedup_keys`] |
//! | the queues that a topic reaches | [`TopicIndex`] |
//! | a message taken apart | [`Parts`] |
//! | counters, errors that are cut, URLs that may be shown | [`Meter`], [`QueueMeter`], [`cut_error`], [`redacted`] |

mod answers;
mod batch;
mod batch_call;
mod batcher;
mod deadline;
mod demand;
mod dial_rate;
mod event_sender;
mod jitter;
mod lease_table;
mod open_calls;
mod pending_receives;
mod progress_watch;
mod publish_block;
mod ready;
mod receipt_times;
mod receives;
mod refusals;
mod reply_buffer;
mod socket_url;
mod stored_spec;
mod tls;
mod topic_index;
mod url;
mod url_parts;

pub use answers::{no_dedup_keys, not_found_if_all};
pub use batch_call::BatchCall;
pub use batcher::Batcher;
pub use deadline::Deadline;
pub use demand::Demand;
pub use dial_rate::wait_to_reconnect;
pub use event_sender::EventSender;
pub use jitter::Jitter;
pub use lease_table::{Begin, LeaseTable};
pub use open_calls::{OpenCall, OpenCalls};
pub use pending_receives::{PendingReceives, Receive};
pub use progress_watch::{ProgressWatch, Receiving};
pub use publish_block::PublishBlock;
pub use ready::begin_delays;
pub use receipt_times::ReceiptTimes;
pub use refusals::Refusals;
pub use reply_buffer::ReplyBuffer;
pub use socket_url::SocketUrl;
pub use stored_spec::stored_spec;
pub use tls::{ByteStream, TLS_PARAMETERS, TlsClient, tls_refusal};
pub use topic_index::TopicIndex;
pub use url::{BrokerUrl, Login};

pub use crate::background::background;
pub use crate::counters::{Meter, QueueMeter};
pub use crate::later::later;
pub use crate::lifecycle::{CloseReason, Entered, Lifecycle};
pub use crate::parts::{Parts, cut_error};
pub use crate::redacted::redacted;
