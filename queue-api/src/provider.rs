//! Which backend: chosen by URL or by the environment, from a list that the application gives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::BoxFuture;

use crate::{DedupStore, Error, Queue, Result};

/// Names the provider: `memory` (the default), `redis`, `rabbitmq`, or a third party's.
pub const PROVIDER_VAR: &str = "MESSAGE_QUEUE_PROVIDER";
/// Names the namespace: `polyqueue` unless set.
pub const NAMESPACE_VAR: &str = "POLYQUEUE_NAMESPACE";

const DEFAULT_NAMESPACE: &str = "polyqueue";
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// A connection that is being made.
pub type Connecting = BoxFuture<'static, Result<Arc<dyn Queue>>>;

/// A backend that can be chosen by name or by the scheme of a URL.
#[derive(Clone, Copy)]
pub struct Provider {
    name: &'static str,
    schemes: &'static [&'static str],
    url_var: &'static str,
    default_url: &'static str,
    connect: fn(ConnectOptions) -> Connecting,
}

impl Provider {
    /// A backend called `name`, for URLs of these `schemes`, whose URL stands in the variable `url_var`.
    pub const fn new(
        name: &'static str,
        schemes: &'static [&'static str],
        url_var: &'static str,
        default_url: &'static str,
        connect: fn(ConnectOptions) -> Connecting,
    ) -> Self {
        Self { name, schemes, url_var, default_url, connect }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The variable that holds its URL.
    pub const fn url_var(&self) -> &'static str {
        self.url_var
    }

    /// The URL that is used when the variable is not set.
    pub const fn default_url(&self) -> &'static str {
        self.default_url
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed URL or namespace, [`Error::Denied`] for wrong credentials,
    /// [`Error::Unavailable`] or [`Error::Timeout`] for a broker that is not there.
    pub async fn connect(&self, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        options.check()?;
        (self.connect)(options).await
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("schemes", &self.schemes)
            .finish_non_exhaustive()
    }
}

/// How to connect.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Where the broker is. May hold a password, which is never shown.
    pub url: String,
    /// Keeps the queues of several applications or tests on one broker apart: `[a-z0-9_-]{1,32}`.
    pub namespace: String,
    /// The deadline of every call; 10 s unless set. `receive`: its wait + this.
    pub deadline: Duration,
    /// Where dedup keys are remembered, for a broker that cannot do so well by itself; one that can refuses it.
    pub dedup_store: Option<Arc<dyn DedupStore>>,
    /// For tests: how far this client's wall clock is off.
    pub clock_offset: TimeDelta,
}

impl ConnectOptions {
    /// The broker at `url`, in the namespace `polyqueue`, with deadlines of 10 s.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: DEFAULT_NAMESPACE.into(),
            deadline: DEFAULT_DEADLINE,
            dedup_store: None,
            clock_offset: TimeDelta::zero(),
        }
    }

    /// The same in another namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The same with another deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same with a store for dedup keys. RabbitMQ takes one; memory and Redis remember keys themselves and answer
    /// [`Error::Unsupported`].
    #[must_use]
    pub fn dedup_store(mut self, store: Arc<dyn DedupStore>) -> Self {
        self.dedup_store = Some(store);
        self
    }

    /// The same with a wall clock that is off: for tests.
    #[must_use]
    pub fn clock_offset(mut self, offset: TimeDelta) -> Self {
        self.clock_offset = offset;
        self
    }

    fn check(&self) -> Result<()> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if !(1..=32).contains(&self.namespace.len()) || !self.namespace.chars().all(allowed) {
            let given = format!("{:?} given, allowed are 1 to 32 of a-z, 0-9, _ and -", self.namespace);
            return Err(Error::invalid("namespace", given));
        }
        if self.deadline.is_zero() {
            return Err(Error::invalid("deadline", "0 given, allowed is anything above"));
        }
        Ok(())
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("url", &redacted(&self.url))
            .field("namespace", &self.namespace)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A URL fit for errors and logs: without its password, also when the URL is malformed.
pub fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let shown = match rest.rsplit_once('@') {
        None => rest.to_owned(),
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@{host}"),
            None => format!("{user}@{host}"),
        },
    };
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    match query {
        Some(query) => format!("{scheme}{shown}?{}", redacted_query(query)),
        None => scheme + &shown,
    }
}

fn redacted_query(query: &str) -> String {
    let hide = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if key.contains("pass") || key.contains("secret") || key.contains("token") => {
            format!("{key}=***")
        }
        _ if pair.contains('@') => "***".into(),
        _ => pair.into(),
    };
    query.split('&').map(hide).collect::<Vec<String>>().join("&")
}

/// Connects to the broker at `options.url`, by the provider whose scheme it has.
///
/// # Errors
/// [`Error::Invalid`] for a scheme that none of the providers has; else as [`Provider::connect`].
pub async fn connect(providers: &[Provider], options: ConnectOptions) -> Result<Arc<dyn Queue>> {
    let scheme = options.url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let provider = scheme.and_then(|s| providers.iter().find(|p| p.schemes.contains(&s.as_str())));
    match provider {
        Some(provider) => provider.connect(options).await,
        None => {
            let schemes: Vec<String> =
                providers.iter().flat_map(|p| p.schemes).map(|scheme| format!("{scheme}://…")).collect();
            let allowed = format!("{:?} given, allowed are {}", redacted(&options.url), schemes.join(", "));
            Err(Error::invalid("URL", allowed))
        }
    }
}

/// Connects to what the environment says.
///
/// `MESSAGE_QUEUE_PROVIDER` (default `memory`) chooses among `providers`, whose URL stands in `MEMORY_URL`, `REDIS_URL`,
/// `RABBITMQ_URL`, or in the variable that a third party's provider names; `POLYQUEUE_NAMESPACE` (default
/// `polyqueue`) keeps applications apart.
///
/// # Errors
/// [`Error::Invalid`] for a provider that is not among `providers`; else as [`Provider::connect`].
pub async fn connect_from_env(providers: &[Provider]) -> Result<Arc<dyn Queue>> {
    let (provider, options) = from_env(providers, |name| std::env::var(name).ok())?;
    provider.connect(options).await
}

/// What [`connect_from_env`] would connect to, with the variables as an argument.
///
/// # Errors
/// [`Error::Invalid`] for a provider that is not among `providers`.
pub fn from_env(
    providers: &[Provider],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(Provider, ConnectOptions)> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let name = set(PROVIDER_VAR).unwrap_or_else(|| "memory".into());
    let Some(provider) = providers.iter().find(|p| p.name == name) else {
        let known: Vec<&str> = providers.iter().map(Provider::name).collect();
        return Err(Error::invalid(PROVIDER_VAR, format!("{name:?} given, linked in: {}", known.join(", "))));
    };
    let url = set(provider.url_var).unwrap_or_else(|| provider.default_url.into());
    let namespace = set(NAMESPACE_VAR).unwrap_or_else(|| DEFAULT_NAMESPACE.into());
    Ok((*provider, ConnectOptions::new(url).namespace(namespace)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("redis://:hunter2@host:6379/1", "redis://:***@host:6379/1"),
            ("amqp://user:p@ss/w:rd@host/%2f", "amqp://user:***@host/%2f"),
            ("redis://host", "redis://host"),
            ("user:hunter2@host", "user:***@host"),
            ("redis://host?password=hunter2&db=1", "redis://host?password=***&db=1"),
        ] {
            assert_eq!(redacted(url), shown);
        }
        let options = ConnectOptions::new("redis://:hunter2@host");
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    fn fake(name: &'static str) -> Provider {
        fn never(_: ConnectOptions) -> Connecting {
            Box::pin(async { Err(Error::Closed) })
        }
        Provider::new(name, &["fake"], "FAKE_URL", "fake://default", never)
    }

    #[test]
    fn an_unknown_provider_lists_the_known() {
        let error =
            from_env(&[fake("memory"), fake("redis")], |_| Some("kafka".into())).unwrap_err().to_string();
        assert!(error.contains("kafka") && error.contains("memory, redis"), "{error}");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let (provider, options) = from_env(&[fake("memory")], |_| Some(String::new())).unwrap();
        assert_eq!((provider.name(), options.url.as_str()), ("memory", "fake://default"));
        assert_eq!(options.namespace, "polyqueue");
    }

    #[tokio::test]
    async fn a_bad_namespace_is_refused_before_anything_is_sent() {
        for namespace in ["", "Upper", "a b", &"x".repeat(33)] {
            let options = ConnectOptions::new("fake://x").namespace(namespace);
            let error = connect(&[fake("memory")], options).await.unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == "namespace"), "{error}");
        }
    }
}
