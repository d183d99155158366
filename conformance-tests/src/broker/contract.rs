//! What every broker that is a process of ours can do.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::error::Result;
use crate::Fault;

/// What a test can do to a broker process, whichever broker it is. Every method has a deadline.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// The URL a client connects to, for example `redis://127.0.0.1:21234/`.
    fn url(&self) -> String;

    /// The loopback port; it stays the same over all restarts.
    fn port(&self) -> u16;

    /// The process id, while there is a process.
    fn pid(&self) -> Option<u32>;

    /// Kills the process at once (SIGKILL), as a power cut would; the data directory stays. Nothing to do if it is down.
    async fn kill9(&self) -> Result<()>;

    /// Ends the broker in order: connections are closed, data is written, the port refuses. Nothing to do if it is down.
    async fn stop_gracefully(&self) -> Result<()>;

    /// Starts it again on the same port and data; returns when it is ready for clients. Nothing to do if it is up.
    async fn start_again(&self) -> Result<()>;

    /// Stops the process from running (SIGSTOP): connections stay open and nobody answers, until [`Broker::thaw`].
    fn freeze(&self) -> Result<()>;

    /// Lets a frozen process run again (SIGCONT).
    fn thaw(&self) -> Result<()>;

    /// What makes one of the broker's own faults happen: those that are no matter of processes, signals and connections.
    /// `None` where it has no such fault.
    fn own_fault(&self, _fault: Fault) -> Option<BoxFuture<'_, Result<()>>> {
        None
    }

    /// Takes back what [`Broker::own_fault`] has done; called when the broker is up.
    async fn undo(&self) -> Result<()> {
        Ok(())
    }

    /// [`Broker::stop_gracefully`], then [`Broker::start_again`].
    async fn restart_gracefully(&self) -> Result<()> {
        self.stop_gracefully().await?;
        self.start_again().await
    }

    /// Freezes the process for `time`, then thaws it. Dropping the future early leaves it frozen.
    async fn pause(&self, time: Duration) -> Result<()> {
        self.freeze()?;
        tokio::time::sleep(time).await;
        self.thaw()
    }
}
