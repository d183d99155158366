//! One attempt to connect, over a byte stream of ours.

use std::io::ErrorKind::TimedOut;

use async_rs::Runtime;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use tokio::time::{Instant, timeout_at};

use crate::address::Address;
use crate::connection::stream::StreamReactor;
use crate::queue_type::version::ServerVersion;

const FRAME_MAX: u32 = 128 * 1024;

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
    let reactor = StreamReactor::new(tls);
    let (runtime, streams) = (reactor.runtime(), reactor.clone());
    // The client's own dialling has no end: it runs in a thread that outlives a dropped future.
    let stream = async move |uri: AMQPUri, runtime: Runtime<_>| {
        let resolved = runtime.to_socket_addrs((uri.authority.host, uri.authority.port));
        let dialled = timeout_at(by, AsyncTcpStream::connect(&streams, resolved)).await;
        Ok(dialled.unwrap_or_else(|_| Err(TimedOut.into()))?)
    };
    let connection = Connection::connector(uri, runtime, stream, properties).await?;
    Ok((connection, reactor.stated()))
}
