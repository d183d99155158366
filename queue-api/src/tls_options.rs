//! What an encrypted connection is made with.

use std::path::PathBuf;

/// Whom an encrypted connection trusts, and as whom it comes. A URL says the same by its parameters `ca`, `cert`, `key` and
/// `server_name`; what both say is refused, and so is what stands beside a URL that asks for no encryption.
///
/// The files are read anew for each connection that is made, so that a renewed certificate needs no restart.
///
/// ```
/// use polyqueue::{ConnectOptions, TlsOptions};
///
/// let tls = TlsOptions::default().ca("/etc/shop/ca.pem").client_certificate("/etc/shop/shop.pem", "/etc/shop/shop.key");
/// let options = ConnectOptions::new("rediss://redis.internal:6380").tls(tls);
/// # assert_eq!(options.tls.server_name, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// A file with certificates in PEM: they are trusted, and no others. Without it those are that this machine trusts.
    pub ca: Option<PathBuf>,
    /// A file with this client's certificate in PEM, followed by those between it and its CA.
    pub cert: Option<PathBuf>,
    /// A file with the certificate's private key in PEM, not encrypted.
    pub key: Option<PathBuf>,
    /// The name or address that the server's certificate must be for, where it is not the URL's host.
    pub server_name: Option<String>,
}

impl TlsOptions {
    /// The same, trusting the certificates in this file and no others.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// The same with a certificate of this client's own, and its key, for a server that asks for one.
    #[must_use]
    pub fn client_certificate(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.cert = Some(cert.into());
        self.key = Some(key.into());
        self
    }

    /// The same for a server whose certificate is for this name.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }
}
