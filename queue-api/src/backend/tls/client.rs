//! How a backend's streams to one server are encrypted.

use std::io;

#[cfg(not(feature = "tls"))]
use super::absent::{check, connect};
use super::asked::asked;
#[cfg(feature = "tls")]
use super::handshake::{check, connect};
use super::stream::ByteStream;
use crate::backend::BrokerUrl;
use crate::{Result, TlsOptions};

/// How streams to one server are encrypted: whom they trust, as whom they come, and what the server is called.
#[derive(Clone, Debug)]
pub struct TlsClient {
    options: TlsOptions,
    server_name: String,
}

impl TlsClient {
    /// What `url`, whose scheme is `encrypted` where it asks for encryption, and `options` say, with the files looked into;
    /// nothing where no encryption is asked for. Nothing is dialled.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for files that are not there, cannot be read or hold no PEM, for a certificate
    /// without its key, for what is said twice, and for what is said beside a URL that asks for no encryption;
    /// [`Error::Unsupported`](crate::Error::Unsupported) where encryption is not built in.
    pub fn asked(
        provider: &'static str,
        url: &BrokerUrl,
        encrypted: &str,
        options: &TlsOptions,
    ) -> Result<Option<Self>> {
        let Some(options) = asked(url, encrypted, options)? else { return Ok(None) };
        let server_name = options.server_name.clone().unwrap_or_else(|| url.host.clone());
        check(provider, &options, &server_name)?;
        Ok(Some(Self { options, server_name }))
    }

    /// The stream, encrypted: the handshake is done, and each knows the other as far as it asked for.
    ///
    /// # Errors
    /// [`tls_refusal`](super::tls_refusal) says whether one side refuses the other. With TLS 1.3 a server's refusal of the
    /// client comes after this, when the stream is first read.
    pub async fn connect<S: ByteStream + 'static>(&self, stream: S) -> io::Result<Box<dyn ByteStream>> {
        connect(&self.options, &self.server_name, stream).await
    }
}
