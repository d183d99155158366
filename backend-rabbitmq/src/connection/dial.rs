//! One attempt to connect, over a byte stream of ours.

use std::future::poll_fn;
use std::io;
use std::io::ErrorKind::{ConnectionAborted, TimedOut};
use std::pin::Pin;
use std::time::Duration;

use async_rs::Runtime;
use async_rs::traits::Reactor;
use futures_io::AsyncRead;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use polyqueue::backend::tls_refusal;
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep, timeout_at};

use crate::address::Address;
use crate::connection::stream::StreamReactor;
use crate::queue_type::version::ServerVersion;

const FRAME_MAX: u32 = 128 * 1024;
/// How long the client library may take to notice that its stream has ended, and to say why.
const NOTICED_WITHIN: Duration = Duration::from_millis(500);
/// How long a server that refuses a client's certificate may take to say so.
const SAID_WITHIN: Duration = Duration::from_secs(1);

/// Connects, by then, and says which version the broker has.
pub(crate) async fn dial(
    address: Address,
    heartbeat: u16,
    name: String,
    by: Instant,
) -> lapin::Result<(Connection, Option<ServerVersion>)> {
    let Address { mut uri, tls, .. } = address;
    uri.query.heartbeat = Some(heartbeat);
    // What the broker offers, too; said first, the client need not clear its buffers a second time.
    uri.query.frame_max = Some(FRAME_MAX);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let (is_encrypted, host, port) = (tls.is_some(), uri.authority.host.clone(), uri.authority.port);
    let reactor = StreamReactor::new(tls);
    let (runtime, streams) = (reactor.runtime(), reactor.clone());
    // The client's own dialling has no end: it runs in a thread that outlives a dropped future.
    let stream = async move |uri: AMQPUri, runtime: Runtime<_>| {
        let resolved = runtime.to_socket_addrs((uri.authority.host, uri.authority.port));
        let dialled = timeout_at(by, AsyncTcpStream::connect(&streams, resolved)).await;
        Ok(dialled.unwrap_or_else(|_| Err(TimedOut.into()))?)
    };
    let connected = Connection::connector(uri, runtime, stream, properties);
    match with_its_stream(connected, &reactor).await {
        Ok(connection) => Ok((connection, reactor.stated())),
        Err(error) if is_encrypted && tls_refusal(&error).is_none() => {
            let asked =
                timeout_at(by.min(Instant::now() + SAID_WITHIN), refusal(&reactor, &host, port)).await;
            Err(asked.ok().flatten().map_or(error, Into::into))
        }
        Err(error) => Err(error),
    }
}

/// The client library may wait for ever for a handshake whose stream ended right behind a frame.
async fn with_its_stream<T>(
    connected: impl Future<Output = lapin::Result<T>>,
    streams: &StreamReactor,
) -> lapin::Result<T> {
    let abandoned = async {
        streams.ended().await;
        sleep(NOTICED_WITHIN).await;
    };
    tokio::select! {
        biased;
        connected = connected => connected,
        () = abandoned => Err(io::Error::from(ConnectionAborted).into()),
    }
}

/// Why a server refuses this client's certificate. With TLS 1.3 it says so after the handshake, and what it says is lost where it
/// resets the connection because of what the client has sent by then. So it is asked without a word.
async fn refusal(streams: &StreamReactor, host: &str, port: u16) -> Option<io::Error> {
    for address in lookup_host((host, port)).await.ok()? {
        let heard = async {
            let (mut stream, mut byte) = (streams.tcp_connect_addr(address).await?, [0]);
            poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut byte)).await
        };
        if let Err(error) = heard.await
            && tls_refusal(&error).is_some()
        {
            return Some(error);
        }
    }
    None
}
