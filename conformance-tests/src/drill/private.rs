//! A drill on a broker that is a process: a private one, or one that was given.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::Command;
use std::sync::Arc;

use polyqueue::{ConnectOptions, Provider, Queue, Result, async_trait};

use super::site::Site;
use crate::broker::{Broker, BrokerFaults, Proxy, RabbitBroker, RedisBroker};
use crate::{Fail, Faults, Linked};

/// A broker with a URL.
pub struct BrokerSite {
    provider: Provider,
    url: String,
    own: Option<Arc<dyn Broker>>,
    process: Option<fn(&str) -> std::io::Result<Command>>,
}

impl BrokerSite {
    /// Starts a private `redis-server` that writes each command to the disk before it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn private_redis(provider: Provider) -> std::result::Result<Self, Fail> {
        let started = RedisBroker::start_with(&["--appendfsync", "always"]).await;
        Ok(Self::on(provider, Arc::new(started.map_err(|error| Fail::new(error.to_string()))?)))
    }

    /// Starts a private RabbitMQ node.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn private_rabbitmq(provider: Provider) -> std::result::Result<Self, Fail> {
        let started = RabbitBroker::start().await;
        Ok(Self::on(provider, Arc::new(started.map_err(|error| Fail::new(error.to_string()))?)))
    }

    fn on(provider: Provider, own: Arc<dyn Broker>) -> Self {
        Self { url: own.url(), own: Some(own), ..Self::given(provider, String::new()) }
    }

    /// A broker that others may use too: only what a proxy can do happens, and only to connections of the drill.
    pub fn given(provider: Provider, url: impl Into<String>) -> Self {
        Self { provider, url: url.into(), own: None, process: None }
    }

    /// The same where clients can be processes of their own: what starts one for the broker at a URL.
    #[must_use]
    pub fn with_processes(mut self, process: fn(&str) -> std::io::Result<Command>) -> Self {
        self.process = Some(process);
        self
    }
}

#[async_trait]
impl Site for BrokerSite {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    async fn open(&self, mut options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        if options.url.is_empty() {
            options.url = self.url.clone();
        }
        self.provider.connect(options).await
    }

    async fn link(&self) -> std::result::Result<Linked, Fail> {
        let (host, port) =
            host_of(&self.url).ok_or("no proxy can stand before a URL without a host and port")?;
        let found = (host, port).to_socket_addrs().map_err(|error| Fail::new(format!("{host}: {error}")))?;
        // Private brokers listen on IPv4 only, and `localhost` may be both.
        let mut found: Vec<SocketAddr> = found.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        let broker = found.first().ok_or_else(|| Fail::new(format!("{host} has no address")))?;
        let proxy = Proxy::before(*broker).map_err(|error| Fail::new(error.to_string()))?;
        let url = self.url.replacen(&format!("{host}:{port}"), &proxy.address().to_string(), 1);
        Ok(Linked { link: Arc::new(proxy), url })
    }

    fn faults(&self) -> Option<Arc<dyn Faults>> {
        Some(Arc::new(BrokerFaults::new(self.own.clone()?)))
    }

    fn process(&self) -> Option<Command> {
        self.process?(&self.url).ok()
    }

    fn holds_by_connection(&self) -> bool {
        self.provider.name() == "rabbitmq"
    }
}

impl fmt::Debug for BrokerSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerSite").field("provider", &self.provider.name()).finish_non_exhaustive()
    }
}

/// Host and port of a URL, both written out.
fn host_of(url: &str) -> Option<(&str, u16)> {
    let rest = url.split_once("://")?.1;
    let host = rest.split(['/', '?']).next()?;
    let (host, port) = host.rsplit_once('@').map_or(host, |(_, host)| host).rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_stands_between_the_user_and_the_rest() {
        assert_eq!(host_of("redis://127.0.0.1:6379/3"), Some(("127.0.0.1", 6379)));
        assert_eq!(host_of("amqp://a:b@broker.example:5672/%2f?x=1"), Some(("broker.example", 5672)));
        assert_eq!(host_of("redis://broker.example"), None);
    }
}
