//! Making the connections over two streams: handshake, a look at the server, our channels.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::later;
use polyqueue::{Certainty, Error, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::address::{Address, NAME};
use crate::connection::fault;
use crate::connection::fault::Fault;
use crate::connection::progress::Progress;
use crate::connection::stream::Stream;

/// One of the two connections.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) connection: MultiplexedConnection,
    pub(super) progress: Arc<Progress>,
}

/// Two connections, as long as both live.
pub(super) struct Session {
    /// For calls.
    pub(super) asking: Line,
    /// Where the server tells unasked. A server cuts off who listens and has 32 MiB before him: no large answer may be there.
    pub(super) listening: Line,
    pub(super) generation: u64,
    /// What reads and writes the two streams, which are closed when it ends: with the session.
    _drivers: JoinSet<()>,
}

/// What is known of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// Whether it writes an append-only file.
    pub(crate) durable: bool,
    /// What its clock said, in ms.
    pub(crate) time: Option<u64>,
}

/// What both connections of a session are made with.
pub(super) struct Handshake<'a, P> {
    pub(super) address: &'a Address,
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
        let (address, until) = (self.address, later(Instant::now(), within));
        let late = || Error::timeout(format!("connecting to {address}"), within, Certainty::Definite);
        timeout_at(until, self.session(within)).await.unwrap_or_else(|_| Err(late()))
    }

    /// One connection after the other: where nobody can serve us, an attempt is a single one.
    async fn session(self, within: Duration) -> Result<(Session, Server)> {
        let address = self.address;
        let mut drivers = JoinSet::new();
        let mut asking = self.line(within, &mut drivers).await?;
        let info = fault::read(asking.connection.send_packed_command(&redis::cmd("INFO")).await);
        let info = info.map_err(|fault| unsent(fault, address))?.into_bytes().unwrap_or_default();
        let server = examine(address, &String::from_utf8_lossy(&info))?;
        let mut listening = self.line(within, &mut drivers).await?;
        let subscribed = listening.connection.subscribe(self.channels).await;
        subscribed.map_err(|error| unsent(error.into(), address))?;
        let session = Session { asking, listening, generation: self.generation, _drivers: drivers };
        Ok((session, server))
    }

    async fn line(&self, within: Duration, drivers: &mut JoinSet<()>) -> Result<Line> {
        let stream = Stream::connect(&self.address.endpoint, within).await?;
        let progress = stream.progress();
        let config =
            AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(self.push.clone());
        let made = MultiplexedConnection::new_with_config(&self.address.login, stream, config).await;
        let (connection, driver) = made.map_err(|error| unsent(error.into(), self.address))?;
        drivers.spawn(driver);
        Ok(Line { connection, progress })
    }
}

/// While nothing but a handshake was sent, nothing can have happened.
fn unsent(fault: Fault, address: &Address) -> Error {
    fault.into_error(address).definite()
}

/// Refuses a server that cannot do what we promise.
fn examine(address: &Address, info: &str) -> Result<Server> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let version = field("redis_version").unwrap_or("unknown");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < 7) {
        let what = format!("a server of version {version} at {}: 7.0 or later is needed", address);
        return Err(Error::unsupported(NAME, what));
    }
    let unfit = |what: &str| {
        let text = format!("{}: the server {what}", address);
        Err(Error::unavailable(NAME, Certainty::Definite, text))
    };
    if field("loading") == Some("1") {
        return unfit("is still loading its data");
    }
    if field("role").is_some_and(|role| role != "master") {
        return unfit("is a replica, which takes no writes");
    }
    let policy = field("maxmemory_policy").unwrap_or("noeviction");
    // No key of a message has a time to live.
    let spares_ours = policy == "noeviction" || policy.starts_with("volatile-");
    if !spares_ours && !address.allow_eviction {
        let what = format!(
            "a server that may evict messages ({} has maxmemory-policy {policy}): set it to noeviction, or accept \
             losses with ?allow_eviction=true",
            address
        );
        return Err(Error::unsupported(NAME, what));
    }
    let micros = field("server_time_usec").and_then(|micros| micros.parse::<u64>().ok());
    Ok(Server {
        durable: field("aof_enabled") == Some("1"),
        time: micros.map(|micros| micros.div_ceil(1000)),
    })
}

#[cfg(test)]
mod tests {
    use polyqueue::TlsOptions;

    use super::*;

    const WITHIN: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn with_a_peer_that_accepts_and_never_answers_it_ends_in_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address =
            Address::parse(&format!("redis://:hunter2@127.0.0.1:{port}"), &TlsOptions::default()).unwrap();
        let push = |_| Ok(());
        let handshake = Handshake { address: &address, channels: Vec::new(), generation: 0, push };
        let began = Instant::now();
        let Err(error) = handshake.connect(WITHIN).await else { panic!("connected to nobody") };
        assert!((WITHIN..WITHIN * 10).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert!(matches!(error, Error::Timeout { certainty: Certainty::Definite, .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("connecting to redis://***@127.0.0.1:{port}")),
            "{error}"
        );
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
