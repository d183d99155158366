//! Encrypted streams, the same for every broker: what is asked for, the files, the handshake, and what a refusal means.
//!
//! All of it is there without the feature `tls`, too, and then refuses: no backend needs to know which it is.

#[cfg(not(feature = "tls"))]
mod absent;
mod asked;
mod client;
#[cfg(feature = "tls")]
mod config;
#[cfg(feature = "tls")]
mod handshake;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "tls")]
mod reason;
mod refusal;
mod stream;

pub use asked::TLS_PARAMETERS;
pub use client::TlsClient;
pub use refusal::tls_refusal;
pub use stream::ByteStream;
