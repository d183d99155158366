//! Making the connections: handshake, a look at the server, our channels.

use std::time::Duration;

use polyqueue::{Certainty, Error, Result};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{AsyncConnectionConfig, IntoConnectionInfo as _, ProtocolVersion, PushInfo};
use tokio::time::timeout;

use crate::address::{Address, NAME};
use crate::connection::fault;
use crate::connection::fault::Fault;

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

/// Two connections, as long as both live.
pub(super) struct Session {
    /// For calls.
    pub(super) connection: MultiplexedConnection,
    /// Where the server tells unasked. A server cuts off who listens and has 32 MiB before him: no answer may be there.
    pub(super) subscriber: MultiplexedConnection,
    pub(super) generation: u64,
}

/// What is known of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// Whether it writes an append-only file.
    pub(crate) durable: bool,
}

/// What both connections of a session are made with.
pub(super) struct Handshake<'a, P> {
    pub(super) address: &'a Address,
    pub(super) client: &'a redis::Client,
    pub(super) channels: Vec<String>,
    pub(super) generation: u64,
    /// Told what the server says unasked.
    pub(super) push: P,
}

impl<P> Handshake<'_, P>
where
    P: Fn(PushInfo) -> Result<(), redis::aio::SendError> + Clone + Send + Sync + 'static,
{
    pub(super) async fn connect(self, within: Duration) -> Result<(Session, Server)> {
        let address = self.address;
        match timeout(within, self.session()).await {
            Ok(Ok(made)) => Ok(made),
            // While nothing but a handshake was sent, nothing can have happened.
            Ok(Err(Step::Fault(fault))) => Err(fault.into_error(address).definite()),
            Ok(Err(Step::Refused(error))) => Err(error),
            Err(_) => Err(Error::timeout(format!("connecting to {address}"), within, Certainty::Definite)),
        }
    }

    async fn session(self) -> Result<(Session, Server), Step> {
        let (mut connection, mut subscriber) = tokio::try_join!(self.connection(), self.connection())?;
        let info = fault::read(connection.send_packed_command(&redis::cmd("INFO")).await)?;
        let info = info.into_bytes().unwrap_or_default();
        let server = examine(self.address, &String::from_utf8_lossy(&info))?;
        subscriber.subscribe(self.channels).await?;
        Ok((Session { connection, subscriber, generation: self.generation }, server))
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(self.push.clone());
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// Refuses a server that cannot do what we promise.
fn examine(address: &Address, info: &str) -> Result<Server, Step> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let version = field("redis_version").unwrap_or("unknown");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < 7) {
        let what = format!("a server of version {version} at {}: 7.0 or later is needed", address);
        return Err(Step::Refused(Error::unsupported(NAME, what)));
    }
    let unfit = |what: &str| {
        let text = format!("{}: the server {what}", address);
        Err(Step::Refused(Error::unavailable(NAME, Certainty::Definite, text)))
    };
    if field("loading") == Some("1") {
        return unfit("is still loading its data");
    }
    if field("role").is_some_and(|role| role != "master") {
        return unfit("is a replica, which takes no writes");
    }
    let policy = field("maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" && !address.allow_eviction {
        let what = format!(
            "a server that may evict messages ({} has maxmemory-policy {policy}): set it to noeviction, or accept \
             losses with ?allow_eviction=true",
            address
        );
        return Err(Step::Refused(Error::unsupported(NAME, what)));
    }
    Ok(Server { durable: field("aof_enabled") == Some("1") })
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
