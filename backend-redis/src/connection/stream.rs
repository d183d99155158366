//! The bytes between us and a server. Nothing else opens a socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::select_ok;
use polyqueue::backend::ByteStream;
use polyqueue::{Certainty, Error, Result};
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::address::Endpoint;
use crate::connection::fault::unreachable;
use crate::connection::progress::Progress;

/// How long nothing is heard before the other side is asked whether it is there, and how often then.
const ASK_AFTER: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_secs(5);

/// An open byte stream to a server, which counts what comes.
#[derive(Debug)]
pub(super) struct Stream {
    bytes: Box<dyn ByteStream>,
    progress: Arc<Progress>,
}

impl Stream {
    /// Resolves the endpoint anew, so that a name may move, and takes the first of its addresses that answers. Where encryption is
    /// asked for, each side knows the other as far as it asked for.
    pub(super) async fn connect(endpoint: &Endpoint, within: Duration) -> Result<Self> {
        let late = |_| Error::timeout(format!("connecting to {endpoint}"), within, Certainty::Definite);
        let opened = timeout(within, open(endpoint)).await.map_err(late)?;
        let bytes = opened.map_err(|error| unreachable(endpoint, &error))?;
        Ok(Self { bytes, progress: Arc::default() })
    }

    /// What has come over it.
    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }
}

async fn open(endpoint: &Endpoint) -> io::Result<Box<dyn ByteStream>> {
    match endpoint {
        Endpoint::Host { host, port, tls: None } => Ok(Box::new(dial(host, *port).await?)),
        Endpoint::Host { host, port, tls: Some(tls) } => tls.connect(dial(host, *port).await?).await,
        #[cfg(unix)]
        Endpoint::Socket(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Endpoint::Socket(_) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "no such sockets on this platform"))
        }
    }
}

async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup_host((host, port)).await?;
    let attempts: Vec<_> = addresses.map(|address| Box::pin(TcpStream::connect(address))).collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    let (tcp, _slower) = select_ok(attempts).await?;
    // Small packets leave at once, and a dead peer is noticed although we only listen.
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EVERY);
    SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
    Ok(tcp)
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.bytes).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.progress.received(buf.filled().len() - before);
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use polyqueue::TlsOptions;

    use super::*;
    use crate::address::Address;

    const SOON: Duration = Duration::from_secs(5);

    async fn connect(url: &str) -> Result<Stream> {
        Stream::connect(&Address::parse(url, &TlsOptions::default()).unwrap().endpoint, SOON).await
    }

    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_the_address_that_answers_is_taken() {
        let (_listener, port) = listener();
        let tcp = dial("localhost", port).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap().to_string(), format!("127.0.0.1:{port}"));
        assert!(tcp.nodelay().unwrap());
        assert!(SockRef::from(&tcp).keepalive().unwrap());
    }

    #[tokio::test]
    async fn an_address_of_ipv6_is_dialled() {
        let Ok(listener) = TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)) else { return };
        let address = listener.local_addr().unwrap();
        let _stream = connect(&format!("redis://[::1]:{}", address.port())).await.unwrap();
        assert_eq!(listener.accept().unwrap().0.local_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_named_without_secrets() {
        let error = connect("redis+unix:///nowhere/r.sock?password=hunter2").await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { certainty: Certainty::Definite, .. }), "{error}");
        assert!(error.to_string().contains("/nowhere/r.sock: "), "{error}");
        assert!(!format!("{error}{error:?}").contains("hunter2"), "{error:?}");
    }

    #[tokio::test]
    async fn who_is_not_there_is_named_without_secrets() {
        let (listener, port) = listener();
        drop(listener);
        for (host, why) in [("127.0.0.1", "refused"), ("nowhere.invalid", "lookup")] {
            let error = connect(&format!("redis://user:hunter2@{host}:{port}/3")).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable { certainty: Certainty::Definite, .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(&format!("{host}:{port}: ")) && text.contains(why), "{text}");
            assert!(!format!("{text}{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
