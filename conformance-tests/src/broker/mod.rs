//! Private brokers: a real `redis-server` or RabbitMQ node per test run, on loopback, in a directory of its own.
//!
//! ```no_run
//! # async fn example() -> polyqueue_conformance::broker::Result<()> {
//! use polyqueue_conformance::broker::{Broker, RedisBroker};
//!
//! let broker = RedisBroker::start().await?;
//! println!("listening at {}", broker.url());
//! broker.kill9().await?;       // clients see the connection break
//! broker.start_again().await?; // same port, same data
//! # Ok(())
//! # }
//! ```
//!
//! A broker dies with the value that stands for it, and, by a watchdog, with this process, however that ends. Nothing
//! here is tied to one tokio runtime: a broker started in one may be used from any other.

mod error;
mod port;
mod process;
mod proxy;
mod rabbitmq;
mod redis;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use error::{BrokerError, Result};
pub use proxy::{Direction, ProxiedQueue, Proxy, Traffic};
pub use rabbitmq::RabbitBroker;
pub use redis::RedisBroker;

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

    /// Closes every client connection from the broker's side; the broker stays up.
    async fn close_all_connections(&self) -> Result<()>;

    /// Stops the process from running (SIGSTOP): connections stay open and nobody answers, until [`Broker::thaw`].
    fn freeze(&self) -> Result<()>;

    /// Lets a frozen process run again (SIGCONT).
    fn thaw(&self) -> Result<()>;

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
