//! What RabbitMQ can suffer beyond being a process: by its own functions, as `rabbitmqctl` calls them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::console::Console;
use crate::broker::error::Result;
use crate::{Fault, Part, Policy, Right};

const DONE_WITHIN: Duration = Duration::from_secs(30);
/// One may end by itself just then.
pub(super) const CLOSE_CONNECTIONS: &str = "[catch rabbit_networking:close_connection(C, \"closed by the test\") || C <- rabbit_networking:connections()]";
const MEMORY: &str = "{resource_limit, memory, node()}";
const DISK: &str = "{resource_limit, disk, node()}";
/// As if each had acked what it was never sent, for which a channel is closed and the connection lives.
const CLOSE_CHANNELS: &str = "[gen_server2:cast(C, {method, {'basic.ack', 1 bsl 60, false}, none, noflow}) || \
     C <- rabbit_channel:list_local()]";
const DELETE_QUEUES: &str =
    "[rabbit_amqqueue:delete(Q, false, false, <<\"test\">>) || Q <- rabbit_amqqueue:list()]";
const DELETE_EXCHANGES: &str = "[rabbit_exchange:delete(N, false, <<\"test\">>) || \
     {resource, _, exchange, R} = N <- rabbit_exchange:list_names(), R =/= <<>>, \
     binary:longest_common_prefix([R, <<\"amq.\">>]) < 4]";
const UNLIMITED: u64 = 128 << 20;

/// Evaluated on the node for each fault; `None` for what RabbitMQ does not have: scripts, a replica to be, a clock of its own.
pub(super) fn own(console: Result<Arc<Console>>, fault: Fault) -> Option<BoxFuture<'static, Result<()>>> {
    let expressions = match fault {
        Fault::CloseConnections => vec![CLOSE_CONNECTIONS.to_owned()],
        Fault::CloseChannels => vec![CLOSE_CHANNELS.to_owned()],
        Fault::Alarm => vec![alarm(&format!("{{set_alarm, {{{MEMORY}, []}}}}"))],
        Fault::DiskFull => vec![alarm(&format!("{{set_alarm, {{{DISK}, []}}}}"))],
        Fault::Wipe => vec![DELETE_QUEUES.into(), DELETE_EXCHANGES.into()],
        Fault::Delete(Part::Ready) => vec![delete_queues(".q.")],
        Fault::Delete(Part::Dead) => vec![delete_queues(".dead.")],
        Fault::Delete(Part::Routes) => vec![DELETE_EXCHANGES.into()],
        Fault::DenyPermission(right) => vec![permissions(Some(right))],
        Fault::Policy(policy) => vec![policed(policy)],
        // A channel keeps the limit that it was opened with; who sets another one starts the node again.
        Fault::SizeLimit(bytes) => vec![size_limit(bytes), CLOSE_CONNECTIONS.into()],
        _ => return None,
    };
    Some(all(console, expressions).boxed())
}

/// As RabbitMQ does it itself, but done when it is answered: each connection has been told.
fn alarm(event: &str) -> String {
    format!("gen_event:sync_notify(rabbit_alarm, {event})")
}

/// Takes everything back, whatever was done.
pub(super) async fn undo(console: Result<Arc<Console>>) -> Result<()> {
    let expressions = [
        alarm(&format!("{{clear_alarm, {MEMORY}}}")),
        alarm(&format!("{{clear_alarm, {DISK}}}")),
        permissions(None),
        "catch rabbit_policy:delete(<<\"/\">>, <<\"test\">>, <<\"test\">>)".into(),
        size_limit(UNLIMITED),
    ];
    all(console, expressions.to_vec()).await
}

async fn all(console: Result<Arc<Console>>, expressions: Vec<String>) -> Result<()> {
    let console = console?;
    for expression in expressions {
        console.eval(&expression, DONE_WITHIN).await?;
    }
    Ok(())
}

/// Those that have this in their name.
fn delete_queues(part: &str) -> String {
    format!(
        "[rabbit_amqqueue:delete(Q, false, false, <<\"test\">>) || Q <- rabbit_amqqueue:list(), \
         {{resource, _, queue, N}} <- [amqqueue:get_name(Q)], binary:match(N, <<\"{part}\">>) =/= nomatch]"
    )
}

/// What is denied matches no name.
fn permissions(denied: Option<Right>) -> String {
    let allowed = |right| if denied == Some(right) { "^$" } else { ".*" };
    let [configure, write, read] = [Right::Configure, Right::Write, Right::Read].map(allowed);
    format!(
        "rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"/\">>, <<\"{configure}\">>, \
         <<\"{write}\">>, <<\"{read}\">>, <<\"test\">>)"
    )
}

fn policed(policy: Policy) -> String {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (key, value) = match policy {
        Policy::MaxLength(messages) => ("max-length", messages),
        Policy::MessageTtl(time) => ("message-ttl", millis(time)),
        Policy::Expires(time) => ("expires", millis(time).max(1)),
    };
    format!(
        "ok = rabbit_policy:set(<<\"/\">>, <<\"test\">>, <<\".*\">>, [{{<<\"{key}\">>, {value}}}], 0, <<\"queues\">>, <<\"test\">>)"
    )
}

fn size_limit(bytes: u64) -> String {
    format!("application:set_env(rabbit, max_message_size, {bytes})")
}
