//! What a connection is made over.

use std::fmt::Debug;

use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes to a server and back, whatever carries them.
pub trait ByteStream: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin + ?Sized> ByteStream for T {}
