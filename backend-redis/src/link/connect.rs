//! Making the connections: handshake, a look at the server, our channels.

use std::sync::{Arc, Weak};
use std::time::Duration;

use polyqueue::{Certainty, Error, Result};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{AsyncConnectionConfig, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, Value};
use tokio::time::timeout;

use super::fault::Fault;
use super::{Link, Server, Wire, reply};
use crate::NAME;
use crate::address::Address;

/// How long nothing is heard before the other side is asked whether it is there, and how often then.
const ASK_AFTER: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A client for the address: RESP3, for pushes, no delay before small packets, and a dead peer is noticed although we only
/// listen.
pub(super) fn client(address: &Address) -> Result<redis::Client> {
    let invalid = |error: redis::RedisError| Error::invalid("URL", format!("{address}: {error}"));
    let info = address.url.clone().into_connection_info().map_err(invalid)?;
    let keepalive = TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EVERY);
    let tcp = info.tcp_settings().clone().set_nodelay(true).set_keepalive(keepalive);
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    redis::Client::open(info.set_tcp_settings(tcp).set_redis_settings(settings)).map_err(invalid)
}

impl Link {
    pub(super) async fn connect(self: &Arc<Self>, generation: u64) -> Result<(Wire, Server)> {
        match timeout(self.patience, self.handshake(generation)).await {
            Ok(Ok(made)) => Ok(made),
            // While nothing but a handshake was sent, nothing can have happened.
            Ok(Err(Step::Fault(fault))) => Err(fault.into_error(&self.address).definite()),
            Ok(Err(Step::Refused(error))) => Err(error),
            Err(_) => {
                let what = format!("connecting to {}", self.address);
                Err(Error::timeout(what, self.patience, Certainty::Definite))
            }
        }
    }

    async fn handshake(self: &Arc<Self>, generation: u64) -> Result<(Wire, Server), Step> {
        let (mut connection, mut ears) =
            tokio::try_join!(self.connection(generation), self.connection(generation))?;
        let info = reply::read(connection.send_packed_command(&redis::cmd("INFO")).await)?;
        let server = self.examine(&String::from_utf8_lossy(&info.into_bytes().unwrap_or_default()))?;
        let channels: Vec<String> = self.channels.lock().iter().cloned().collect();
        ears.subscribe(channels).await?;
        Ok((Wire { connection, ears, generation }, server))
    }

    async fn connection(self: &Arc<Self>, generation: u64) -> redis::RedisResult<MultiplexedConnection> {
        let link = Arc::downgrade(self);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(move |push| pushed(&link, generation, push));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Refuses a server that cannot do what we promise.
    fn examine(&self, info: &str) -> Result<Server, Step> {
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let version = field("redis_version").unwrap_or("unknown");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            let what = format!("a server of version {version} at {}: 7.0 or later is needed", self.address);
            return Err(Step::Refused(Error::unsupported(NAME, what)));
        }
        let unfit = |what: &str| {
            let text = format!("{}: the server {what}", self.address);
            Err(Step::Refused(Error::unavailable(NAME, Certainty::Definite, text)))
        };
        if field("loading") == Some("1") {
            return unfit("is still loading its data");
        }
        if field("role").is_some_and(|role| role != "master") {
            return unfit("is a replica, which takes no writes");
        }
        let policy = field("maxmemory_policy").unwrap_or("noeviction");
        if policy != "noeviction" && !self.address.allow_eviction {
            let what = format!(
                "a server that may evict messages ({} has maxmemory-policy {policy}): set it to noeviction, or accept \
                 losses with ?allow_eviction=true",
                self.address
            );
            return Err(Step::Refused(Error::unsupported(NAME, what)));
        }
        Ok(Server { durable: field("aof_enabled") == Some("1") })
    }
}

/// Why no connection was made.
enum Step {
    Fault(Fault),
    Refused(Error),
}

impl From<redis::RedisError> for Step {
    fn from(error: redis::RedisError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Fault> for Step {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn pushed(link: &Weak<Link>, generation: u64, push: PushInfo) -> Result<(), redis::aio::SendError> {
    let Some(link) = link.upgrade() else { return Ok(()) };
    match push.kind {
        PushKind::Disconnection => {
            let closed = "the server closed the connection";
            link.lost(generation, &Error::unavailable(NAME, Certainty::Unknown, closed));
        }
        PushKind::Message => {
            if let Ok([Value::BulkString(channel), Value::BulkString(text)]) =
                <[Value; 2]>::try_from(push.data)
            {
                link.listener.heard(&link, &String::from_utf8_lossy(&channel), text.into());
            }
        }
        _ => {}
    }
    Ok(())
}
