//! The broker of a run: the one that a URL in the environment names, or a private one, started when it is first needed.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use polyqueue::{Certainty, ConnectOptions, Error, Provider, Queue, Result};
use tokio::sync::OnceCell;

use crate::broker::{self, Broker, BrokerFaults, Proxy};
use crate::{ChildSpec, Faults, Linked, NoFaults};

/// Starts a private broker.
pub type Start = fn() -> BoxFuture<'static, broker::Result<Arc<dyn Broker>>>;

/// The broker of a run. What harnesses of brokers that are processes are built on.
pub struct Stage {
    provider: &'static str,
    url_var: &'static str,
    given: Option<String>,
    start: Start,
    own: OnceCell<Arc<dyn Broker>>,
}

impl Stage {
    /// The broker whose URL stands in the variable `url_var`, or else what `start` starts.
    pub fn new(provider: &'static str, url_var: &'static str, start: Start) -> Self {
        let given = std::env::var(url_var).ok().filter(|url| !url.is_empty());
        Self { provider, url_var, given, start, own: OnceCell::new() }
    }

    /// Where it is.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when a private broker cannot be had: that fails the suite.
    pub async fn url(&self) -> Result<String> {
        match &self.given {
            Some(url) => Ok(url.clone()),
            None => Ok(self.own().await?.url()),
        }
    }

    /// A fresh client of it, unless `options` say where another is.
    ///
    /// # Errors
    /// As the backend's own connect.
    pub async fn connect(&self, provider: &Provider, mut options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        if options.url.is_empty() {
            options.url = self.url().await?;
        }
        provider.connect(options).await
    }

    /// Control over its process; none over one that was given by URL.
    ///
    /// # Errors
    /// [`NoFaults`], as [`Harness::faults`](crate::Harness::faults) says it.
    pub async fn faults(&self) -> Result<Arc<dyn Faults>, NoFaults> {
        if self.given.is_some() {
            return Err(NoFaults::NotApplicable(format!("the broker is given by {}", self.url_var)));
        }
        let broker = self.own().await.map_err(|_| NoFaults::Missing)?;
        Ok(Arc::new(BrokerFaults::new(broker.clone())))
    }

    /// A proxy before it, where it is on this machine. Known after the first [`Stage::url`].
    ///
    /// # Errors
    /// [`NoFaults`], as [`Harness::link`](crate::Harness::link) says it.
    pub fn link(&self) -> Result<Linked, NoFaults> {
        let proxied = self.address().and_then(|broker| {
            let proxy = Proxy::start(broker.port()).ok()?;
            let url = self.through(proxy.address())?;
            Some(Linked { link: Arc::new(proxy), url })
        });
        proxied.ok_or(NoFaults::Missing)
    }

    /// Where a proxy can stand before it: on this machine only. Known after the first [`Stage::url`].
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.given {
            Some(url) => here(url),
            None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, self.own.get()?.port()))),
        }
    }

    /// Its URL, seen through a proxy.
    pub fn through(&self, proxy: SocketAddr) -> Option<String> {
        let url = self.given.clone().or_else(|| Some(self.own.get()?.url()))?;
        let (start, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?']).next()?;
        let user = host.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
        Some(format!("{start}://{user}{proxy}{}", &rest[host.len()..]))
    }

    /// How another process reaches it. Known after the first [`Stage::url`].
    pub fn child(&self) -> Option<ChildSpec> {
        let url = self.given.clone().or_else(|| Some(self.own.get()?.url()))?;
        Some(ChildSpec { vars: vec![(self.url_var.into(), url)] })
    }

    async fn own(&self) -> Result<&Arc<dyn Broker>> {
        let started = self.own.get_or_try_init(|| (self.start)()).await;
        started.map_err(|error| Error::unavailable(self.provider, Certainty::Definite, error))
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// The address of a URL that leads to this machine.
fn here(url: &str) -> Option<SocketAddr> {
    let rest = url.split_once("://")?.1;
    let host = rest.split(['/', '?']).next()?;
    let (host, port) = host.rsplit_once('@').map_or(host, |(_, host)| host).rsplit_once(':')?;
    matches!(host, "127.0.0.1" | "localhost")
        .then(|| port.parse().ok())?
        .map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(url: &str) -> Stage {
        let start: Start = || Box::pin(async { Err(broker::BrokerError::Missing { program: "none" }) });
        Stage { given: Some(url.into()), ..Stage::new("test", "POLYQUEUE_TEST_NO_SUCH_URL", start) }
    }

    #[test]
    fn a_proxy_takes_the_place_of_host_and_port() {
        let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, 7));
        for (url, through) in [
            ("redis://127.0.0.1:6379/3?x=1", "redis://127.0.0.1:7/3?x=1"),
            ("amqp://guest:guest@localhost:5672/%2f", "amqp://guest:guest@127.0.0.1:7/%2f"),
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:7"),
        ] {
            assert_eq!(given(url).through(proxy).unwrap(), through);
            assert!(given(url).address().is_some());
        }
        assert_eq!(given("redis://example.com:6379").address(), None);
    }

    #[tokio::test]
    async fn a_given_broker_has_no_faults_and_a_missing_one_fails() {
        assert!(matches!(given("redis://127.0.0.1:1").faults().await, Err(NoFaults::NotApplicable(_))));
        let stage = Stage { given: None, ..given("") };
        let error = stage.url().await.unwrap_err();
        assert!(error.to_string().contains("not installed"), "{error}");
    }
}
