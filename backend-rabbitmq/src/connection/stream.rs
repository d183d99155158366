//! The byte stream under the client library: made here, and all that arrives passes by here.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow::Break;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_rs::traits::{AsyncToSocketAddrs, Reactor};
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;
use polyqueue::backend::{ByteStream, TlsClient, tls_refusal};
use tokio::io::{AsyncRead as TokioRead, AsyncWrite as TokioWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::connection::greeting::Greeting;
use crate::connection::screen::Screen;
use crate::queue_type::version::ServerVersion;

/// What the broker at the other end of a stream says that it is, once it has.
pub(crate) type StatedVersion = Arc<Mutex<Option<ServerVersion>>>;

/// Makes the streams of one connection, encrypted where there is a client for it.
#[derive(Clone, Debug)]
pub(crate) struct StreamReactor {
    tokio: Tokio,
    tls: Option<TlsClient>,
    stated: StatedVersion,
    ended: Arc<watch::Sender<bool>>,
}

impl StreamReactor {
    pub(crate) fn new(tls: Option<TlsClient>) -> Self {
        let (stated, ended) = Default::default();
        Self { tokio: Tokio::current(), tls, stated, ended }
    }

    /// Tokio, with these streams.
    pub(crate) fn runtime(&self) -> Runtime<RuntimeParts<Tokio, Self>> {
        Runtime::new(RuntimeParts::new(self.tokio.clone(), self.clone()))
    }

    /// What the broker at the end of the latest stream states.
    pub(crate) fn stated(&self) -> Option<ServerVersion> {
        *self.stated.lock()
    }

    /// Ends when one of its streams has.
    pub(crate) async fn ended(&self) {
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
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

    /// The first address that answers; where none is good, a refusal is worth more than an address that is silent.
    async fn tcp_connect<A: AsyncToSocketAddrs + Send>(&self, addresses: A) -> io::Result<Stream> {
        let mut failed: Option<io::Error> = None;
        for address in addresses.to_socket_addrs().await? {
            match self.tcp_connect_addr(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) if failed.as_ref().is_none_or(|so_far| tls_refusal(so_far).is_none()) => {
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Stream>> + Send + 'static {
        let (tls, stated, ended) = (self.tls.clone(), self.stated.clone(), self.ended.clone());
        async move {
            let tcp = connect(address).await?;
            let bytes = match tls {
                None => Box::new(tcp),
                Some(tls) => tls.connect(tcp).await?,
            };
            let greeting = Some(Greeting::default());
            let (screen, readable) = (Screen::default(), Vec::new());
            Ok(Stream { bytes, greeting, stated, ended, screen, readable, read: 0 })
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
    bytes: Box<dyn ByteStream>,
    /// Until it is complete.
    greeting: Option<Greeting>,
    stated: StatedVersion,
    ended: Arc<watch::Sender<bool>>,
    screen: Screen,
    /// What has come through the screen, and how much of it was read.
    readable: Vec<u8>,
    read: usize,
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
        while self.readable.len() == self.read && !into.is_empty() {
            let this = &mut *self;
            let mut arrived = ReadBuf::new(into);
            let came = ready!(TokioRead::poll_read(Pin::new(&mut this.bytes), cx, &mut arrived));
            if came.is_err() || arrived.filled().is_empty() {
                this.ended.send_replace(true);
                return Poll::Ready(came.map(|()| 0));
            }
            (this.read, this.readable) = (0, std::mem::take(&mut this.readable));
            this.readable.clear();
            this.screen.take(arrived.filled(), &mut this.readable);
            let arrived = arrived.filled().len();
            this.arrived(&into[..arrived]);
        }
        let readable = &self.readable[self.read..];
        let count = readable.len().min(into.len());
        into[..count].copy_from_slice(&readable[..count]);
        self.read += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        TokioWrite::poll_write(Pin::new(&mut self.bytes), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TokioWrite::poll_flush(Pin::new(&mut self.bytes), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TokioWrite::poll_shutdown(Pin::new(&mut self.bytes), cx)
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
    async fn small_packets_leave_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(connect(listener.local_addr().unwrap()).await.unwrap().nodelay().unwrap());
    }

    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn a_refusal_is_not_hidden_by_an_address_that_is_silent() {
        let ca = polyqueue_conformance::broker::CertificateAuthority::new().unwrap();
        let url = polyqueue::backend::BrokerUrl::parse("amqps://host", "", &[]).unwrap();
        let options = polyqueue::TlsOptions::default().ca(ca.cert());
        let tls = TlsClient::asked("rabbitmq", &url, "amqps", &options).unwrap();
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let addresses = [silent, plain.local_addr().unwrap(), silent];
        let answers = tokio::spawn(async move {
            plain.accept().await.unwrap().0.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
        });
        let error = StreamReactor::new(tls).tcp_connect(&addresses[..]).await.err().unwrap();
        assert!(tls_refusal(&error).is_some(), "{error}");
        answers.await.unwrap();
    }

    #[tokio::test]
    async fn what_arrives_is_passed_on_and_the_version_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reactor = StreamReactor::new(None);
        let mut stream = reactor.tcp_connect_addr(listener.local_addr().unwrap()).await.unwrap();
        let (mut broker, _) = listener.accept().await.unwrap();
        broker.write_all(START).await.unwrap();
        broker.write_all(START).await.unwrap();
        drop(broker);
        let (mut all, mut part) = (Vec::new(), [0; 10]);
        while let count @ 1.. = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut part)).await.unwrap() {
            all.extend_from_slice(&part[..count]);
        }
        assert_eq!(all, [START, START].concat());
        assert_eq!(reactor.stated(), ServerVersion::read("RabbitMQ", "4.3.0"));
        assert!(stream.greeting.is_none());
    }
}
