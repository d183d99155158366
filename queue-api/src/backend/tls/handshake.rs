//! The handshake, and the stream after it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::config::{config, server_name};
use super::reason::{of_the_handshake, sorted};
use super::stream::ByteStream;
use crate::{Result, TlsOptions};

/// Looks into the files.
pub(super) fn check(_: &'static str, options: &TlsOptions, name: &str) -> Result<()> {
    server_name(name)?;
    config(options).map(drop)
}

/// Reads the files anew, and shakes hands.
pub(super) async fn connect<S: ByteStream + 'static>(
    options: &TlsOptions,
    name: &str,
    stream: S,
) -> io::Result<Box<dyn ByteStream>> {
    let name = server_name(name).map_err(io::Error::other)?;
    let given = options.clone();
    let config = spawn_blocking(move || config(&given)).await.map_err(io::Error::other)?;
    let config = Arc::new(config.map_err(io::Error::other)?);
    let connector = TlsConnector::from(config);
    let has_certificate = options.cert.is_some();
    match connector.connect(name.clone(), stream).await {
        Ok(stream) => Ok(Box::new(Encrypted { stream, name, has_certificate })),
        Err(error) => Err(of_the_handshake(error, &name, has_certificate)),
    }
}

/// A stream whose errors say what they mean.
#[derive(Debug)]
struct Encrypted<S> {
    stream: TlsStream<S>,
    name: ServerName<'static>,
    has_certificate: bool,
}

impl<S: ByteStream> Encrypted<S> {
    /// A server that has refused us and gone breaks our writing, but what it said can still be read.
    fn said_before(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let mut byte = [0];
        let last = match Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Err(said)) => said,
            _ => error,
        };
        sorted(last, &self.name, self.has_certificate)
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.said_before(cx, error))),
            polled => polled,
        }
    }
}

impl<S: ByteStream> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        polled.map_err(|error| sorted(error, &self.name, self.has_certificate))
    }
}

impl<S: ByteStream> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
