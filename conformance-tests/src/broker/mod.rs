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

mod certificates;
mod command;
mod contract;
mod error;
mod faults;
mod port;
mod process;
mod proxy;
mod rabbitmq;
mod redis;
mod slot;

pub use certificates::{Certificate, CertificateAuthority, Encryption};
pub use command::ProcessFaults;
pub use contract::Broker;
pub use error::{BrokerError, Result};
pub use faults::BrokerFaults;
pub use proxy::Proxy;
pub use rabbitmq::RabbitBroker;
pub use redis::RedisBroker;
