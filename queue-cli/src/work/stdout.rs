//! What a command prints on standard output, kept for a reply.

use polyqueue::Bytes;
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;

/// A read that is dropped goes on at the next call, so that nothing is lost when the wait for the end is given up.
pub(crate) struct Stdout {
    stream: Option<ChildStdout>,
    printed: Vec<u8>,
}

impl Stdout {
    pub(crate) fn of(stream: Option<ChildStdout>) -> Self {
        Self { stream, printed: Vec::new() }
    }

    /// Until its end, or a fault: what could be read before it is what the command said.
    pub(crate) async fn read(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while stream.read_buf(&mut self.printed).await.is_ok_and(|read| read > 0) {}
    }

    pub(crate) fn printed(self) -> Bytes {
        self.printed.into()
    }
}
