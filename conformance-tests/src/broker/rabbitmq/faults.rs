//! What RabbitMQ can suffer beyond being a process: by its own functions, as `rabbitmqctl` calls them.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::RabbitBroker;
use crate::broker::error::Result;
use crate::{Fault, Policy, Right};

const MEMORY: &str = "{resource_limit, memory, node()}";
const DISK: &str = "{resource_limit, disk, node()}";
/// As a server would do it: the channel ends with an error of its own, the connection lives.
const CLOSE_CHANNELS: &str = "[exit(C, {amqp_error, precondition_failed, \"closed by the test\", none}) || C <- rabbit_channel:list_local()]";
const DELETE_QUEUES: &str =
    "[rabbit_amqqueue:delete(Q, false, false, <<\"test\">>) || Q <- rabbit_amqqueue:list()]";
const DELETE_EXCHANGES: &str = "[rabbit_exchange:delete(N, false, <<\"test\">>) || \
     {resource, _, exchange, R} = N <- rabbit_exchange:list_names(), R =/= <<>>, \
     binary:longest_common_prefix([R, <<\"amq.\">>]) < 4]";
const UNLIMITED: u64 = 128 << 20;

/// Evaluated on the node for each fault; `None` for what RabbitMQ does not have: scripts, a replica to be, a clock of its own.
pub(super) fn own(rabbit: &RabbitBroker, fault: Fault) -> Option<BoxFuture<'_, Result<()>>> {
    let expressions = match fault {
        Fault::CloseConnections => return Some(rabbit.close_all_connections().boxed()),
        Fault::CloseChannels => vec![CLOSE_CHANNELS.to_owned()],
        Fault::Alarm => vec![format!("rabbit_alarm:set_alarm({{{MEMORY}, []}})")],
        Fault::DiskFull => vec![format!("rabbit_alarm:set_alarm({{{DISK}, []}})")],
        Fault::Wipe => vec![DELETE_QUEUES.into(), DELETE_EXCHANGES.into()],
        Fault::DenyPermission(right) => vec![permissions(Some(right))],
        Fault::Policy(policy) => vec![policed(policy)],
        Fault::SizeLimit(bytes) => return Some(limit_size(rabbit, bytes).boxed()),
        _ => return None,
    };
    Some(all(rabbit, expressions).boxed())
}

/// Takes everything back, whatever was done.
pub(super) async fn undo(rabbit: &RabbitBroker) -> Result<()> {
    let expressions = [
        format!("rabbit_alarm:clear_alarm({MEMORY})"),
        format!("rabbit_alarm:clear_alarm({DISK})"),
        permissions(None),
        "catch rabbit_policy:delete(<<\"/\">>, <<\"test\">>, <<\"test\">>)".into(),
        size_limit(UNLIMITED),
    ];
    all(rabbit, expressions.to_vec()).await
}

async fn all(rabbit: &RabbitBroker, expressions: Vec<String>) -> Result<()> {
    for expression in expressions {
        rabbit.eval(&expression).await?;
    }
    Ok(())
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

/// A channel keeps the limit that it was opened with; who sets another one starts the node again.
async fn limit_size(rabbit: &RabbitBroker, bytes: u64) -> Result<()> {
    rabbit.eval(&size_limit(bytes)).await?;
    rabbit.close_all_connections().await
}
