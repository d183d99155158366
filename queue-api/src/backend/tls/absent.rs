//! What stands for encryption where it is not built in.

use std::io;

use super::stream::ByteStream;
use crate::{Error, Result, TlsOptions};

/// Refuses: a backend's own feature turns on ours.
pub(super) fn check(provider: &'static str, _: &TlsOptions, _: &str) -> Result<()> {
    let what = format!(
        "TLS as it was built: turn on the feature \"tls\" of polyqueue-{provider}, as in \
         polyqueue-{provider} = {{ features = [\"tls\"] }}"
    );
    Err(Error::unsupported(provider, what))
}

pub(super) async fn connect<S: ByteStream + 'static>(
    _: &TlsOptions,
    _: &str,
    _: S,
) -> io::Result<Box<dyn ByteStream>> {
    Err(io::ErrorKind::Unsupported.into())
}
