//! What the library that encrypts is told.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::pem::{certificates, private_key, refused};
use crate::{Error, Result, TlsOptions};

/// Reads the files. The provider of cryptography is given here, so that the process need have none installed and an
/// application may have another.
pub(super) fn config(options: &TlsOptions) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid("TLS", format!("the versions do not fit: {error}")))?;
    let trusting = versions.with_root_certificates(roots(options)?);
    let mut config = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => {
            let (chain, private) = (certificates("cert", cert)?, private_key("key", key)?);
            let unfit = |error: rustls::Error| {
                refused(
                    "cert",
                    cert,
                    &format!("does not fit its key: {error}"),
                    "give the two that belong together",
                )
            };
            trusting.with_client_auth_cert(chain, private).map_err(unfit)?
        }
        _ => trusting.with_no_client_auth(),
    };
    // Each connection has its own, so that nothing would ever be resumed.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What the server's certificate must be for.
pub(super) fn server_name(name: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        Error::invalid("server_name", format!("{name:?} is neither a host's name nor an address"))
    })
}

fn roots(options: &TlsOptions) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(file) = &options.ca else {
        let found = rustls_native_certs::load_native_certs();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        return match usable {
            0 => Err(Error::invalid("ca", "not given, and this machine trusts no certificate: give a file")),
            _ => Ok(roots),
        };
    };
    for certificate in certificates("ca", file)? {
        roots.add(certificate).map_err(|error| {
            refused("ca", file, &format!("holds what is no certificate of a CA: {error}"), "give the CA's")
        })?;
    }
    Ok(roots)
}
