//! The byte stream under the client library: made here, and all that arrives passes by here.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow::Break;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;
use tokio::io::{AsyncRead as TokioRead, AsyncWrite as TokioWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::connection::greeting::Greeting;
use crate::queue_type::version::ServerVersion;

/// What the broker at the other end of a stream says that it is, once it has.
pub(crate) type StatedVersion = Arc<Mutex<Option<ServerVersion>>>;

/// Tokio, with our streams; and what the broker at the end of the latest stream states.
pub(crate) fn runtime() -> (Runtime<RuntimeParts<Tokio, StreamReactor>>, StatedVersion) {
    let (tokio, stated) = (Tokio::current(), StatedVersion::default());
    let reactor = StreamReactor { tokio: tokio.clone(), stated: stated.clone() };
    (Runtime::new(RuntimeParts::new(tokio, reactor)), stated)
}

/// Makes the streams of one connection.
#[derive(Clone, Debug)]
pub(crate) struct StreamReactor {
    tokio: Tokio,
    stated: StatedVersion,
}

impl Reactor for StreamReactor {
    type TcpStream = Stream;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// Nobody has sockets of his own.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Stream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.tokio.sleep(time)
    }

    fn interval(
        &self,
        time: Duration,
    ) -> impl futures_util::Stream<Item = std::time::Instant> + Send + 'static {
        self.tokio.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Stream>> + Send + 'static {
        let stated = self.stated.clone();
        async move {
            let greeting = Some(Greeting::default());
            Ok(Stream { tcp: connect(address).await?, greeting, stated })
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.connect(address).await
}

/// A connection's bytes.
pub(crate) struct Stream {
    tcp: TcpStream,
    /// Until it is complete.
    greeting: Option<Greeting>,
    stated: StatedVersion,
}

impl Stream {
    fn arrived(&mut self, bytes: &[u8]) {
        if let Some(greeting) = &mut self.greeting
            && let Break(version) = greeting.take(bytes)
        {
            *self.stated.lock() = version;
            self.greeting = None;
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(into);
        ready!(TokioRead::poll_read(Pin::new(&mut self.tcp), cx, &mut into))?;
        self.arrived(into.filled());
        Poll::Ready(Ok(into.filled().len()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        TokioWrite::poll_write(Pin::new(&mut self.tcp), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TokioWrite::poll_flush(Pin::new(&mut self.tcp), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TokioWrite::poll_shutdown(Pin::new(&mut self.tcp), cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const START: &[u8] = b"\x01\0\0\0\0\0\x3e\0\x0a\0\x0a\0\x09\0\0\0\x27\
        \x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x054.3.0\0\0\0\x05PLAIN\0\0\0\0\xce";

    #[tokio::test]
    async fn what_arrives_is_passed_on_and_the_version_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (runtime, stated) = runtime();
        let mut stream = runtime.tcp_connect_addr(listener.local_addr().unwrap()).await.unwrap();
        let (mut broker, _) = listener.accept().await.unwrap();
        assert!(stream.tcp.nodelay().unwrap());
        broker.write_all(START).await.unwrap();
        broker.write_all(START).await.unwrap();
        drop(broker);
        let (mut all, mut part) = (Vec::new(), [0; 10]);
        while let count @ 1.. = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut part)).await.unwrap() {
            all.extend_from_slice(&part[..count]);
        }
        assert_eq!(all, [START, START].concat());
        assert_eq!(*stated.lock(), ServerVersion::read("RabbitMQ", "4.3.0"));
        assert!(stream.greeting.is_none());
    }
}
