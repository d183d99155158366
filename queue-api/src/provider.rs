//! Which backend: chosen by URL or by the environment, from a list that the application gives.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::BoxFuture;

use crate::lazy::lazily;
use crate::redacted::redacted;
use crate::{DedupStore, Error, Info, Limits, Queue, Result, TlsOptions};

/// Names the provider: `memory` (where nothing is said), `redis`, `rabbitmq`, or a third party's.
pub const PROVIDER_VAR: &str = "MESSAGE_QUEUE_PROVIDER";
/// Names the namespace: `polyqueue` unless set.
pub const NAMESPACE_VAR: &str = "POLYQUEUE_NAMESPACE";

const DEFAULT_PROVIDER: &str = "memory";
const DEFAULT_NAMESPACE: &str = "polyqueue";
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
const MAX_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);
const MAX_CLOCK_OFFSET: TimeDelta = TimeDelta::days(100 * 365);

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
    /// [`Error::Invalid`] for a malformed URL or namespace, and for files of [`TlsOptions`] that cannot be used; [`Error::Denied`]
    /// for wrong credentials and for a certificate that one side does not accept; [`Error::Unavailable`] or [`Error::Timeout`] for a
    /// broker that is not there.
    pub async fn connect(&self, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        options.check()?;
        (self.connect)(options).await
    }

    /// A handle at once, whether the broker is there or not: for a service that starts before it. It connects by itself, again and
    /// again, with growing pauses of up to 2 s. Until then publishes end with a definite error, everything else waits for the
    /// connection up to its deadline, [`health`](Queue::health) says why there is none, and [`info`](Queue::info) what is known
    /// without one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> polyqueue::Result<()> {
    /// use polyqueue::{ConnectOptions, Queue};
    ///
    /// let queue = polyqueue_memory::PROVIDER.connect_lazily(ConnectOptions::new("memory://lazy"))?;
    /// assert!(queue.health().await.healthy);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for a namespace, deadline or clock offset that is not allowed. What is wrong with the URL or the
    /// credentials each call says.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn connect_lazily(&self, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        options.check()?;
        let (connect, given) = (self.connect, options.clone());
        let attempt = Box::new(move || connect(given.clone()));
        Ok(lazily(Info::new(self.name), &options.namespace, options.deadline, attempt))
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
    /// Keeps the queues of several applications or tests on one broker apart: `[a-z0-9_-]{1,48}`.
    pub namespace: String,
    /// The deadline of every call; 10 s unless set, more than 0, to 365 days. `receive`: its wait + this.
    pub deadline: Duration,
    /// Where dedup keys are remembered, for a broker that cannot do so well by itself; one that can refuses it.
    pub dedup_store: Option<Arc<dyn DedupStore>>,
    /// Whom an encrypted connection trusts, and as whom it comes.
    pub tls: TlsOptions,
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
            tls: TlsOptions::default(),
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

    /// The same with files for an encrypted connection, for a URL that asks for one: `rediss://`. Memory and RabbitMQ answer
    /// [`Error::Unsupported`].
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = tls;
        self
    }

    /// The same with a wall clock that is off: for tests.
    #[must_use]
    pub fn clock_offset(mut self, offset: TimeDelta) -> Self {
        self.clock_offset = offset;
        self
    }

    /// What [`Provider::connect`] checks before it dials: for a backend that can also be connected to by a function of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a namespace, deadline or clock offset that is not allowed.
    pub fn check(&self) -> Result<()> {
        Limits::default().check_namespace(&self.namespace)?;
        if self.deadline.is_zero() || self.deadline > MAX_DEADLINE {
            let given = format!("{:?} given, allowed is more than 0, to 365 days", self.deadline);
            return Err(Error::invalid("deadline", given));
        }
        if self.clock_offset.abs() > MAX_CLOCK_OFFSET {
            return Err(Error::invalid("clock offset", "allowed are at most 100 years, either way"));
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
/// `MESSAGE_QUEUE_PROVIDER` chooses among `providers`, whose URL stands in `MEMORY_URL`, `REDIS_URL`, `RABBITMQ_URL`, or in the
/// variable that a third party's provider names; `POLYQUEUE_NAMESPACE` (default `polyqueue`) keeps applications apart. Without
/// `MESSAGE_QUEUE_PROVIDER` it is `memory`, and a warning says so; so it does where the URL of another provider is not set and
/// that provider's default, this machine, is used. An empty variable is one that is not set.
///
/// # Errors
/// [`Error::Invalid`] for a provider that is not among `providers`, and for a variable that is not UTF-8; else as
/// [`Provider::connect`].
pub async fn connect_from_env(providers: &[Provider]) -> Result<Arc<dyn Queue>> {
    let variable = |name: &str| std::env::var_os(name);
    let (provider, options) = from_env(providers, variable)?;
    if let Some(assumed) = assumed(&provider, variable) {
        tracing::warn!("{assumed}");
    }
    provider.connect(options).await
}

/// What [`connect_from_env`] would connect to, with the variables as an argument; it warns of nothing.
///
/// # Errors
/// [`Error::Invalid`] for a provider that is not among `providers`, and for a variable that is not UTF-8.
pub fn from_env(
    providers: &[Provider],
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(Provider, ConnectOptions)> {
    let read = |name: &'static str| read(name, variable(name));
    let given = read(PROVIDER_VAR)?;
    let name = given.as_deref().unwrap_or(DEFAULT_PROVIDER);
    let Some(provider) = providers.iter().find(|p| p.name == name) else {
        let known: Vec<&str> = providers.iter().map(Provider::name).collect();
        let given = given.map_or_else(|| "nothing".into(), |name| format!("{name:?}"));
        return Err(Error::invalid(PROVIDER_VAR, format!("{given} given, linked in: {}", known.join(", "))));
    };
    let url = read(provider.url_var)?.unwrap_or_else(|| provider.default_url.into());
    let namespace = read(NAMESPACE_VAR)?.unwrap_or_else(|| DEFAULT_NAMESPACE.into());
    Ok((*provider, ConnectOptions::new(url).namespace(namespace)))
}

/// What was not said and is taken for granted, in words.
fn assumed(provider: &Provider, variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let unset = |name: &str| variable(name).is_none_or(|value| value.is_empty());
    if unset(PROVIDER_VAR) {
        let memory = "messages are in this process's memory only and end with it";
        return Some(format!("{PROVIDER_VAR} is not set: {memory}; set it to memory if that is meant"));
    }
    let (name, url) = (provider.url_var, redacted(provider.default_url));
    let assumes = provider.name != DEFAULT_PROVIDER && unset(name);
    assumes.then(|| {
        format!("{name} is not set: the broker is taken to be at {url}; set it to that if it is meant")
    })
}

/// The value may be a URL with a password, and is not shown.
fn read(name: &'static str, value: Option<OsString>) -> Result<Option<String>> {
    let not_unicode = |_| Error::invalid(name, "the value is not UTF-8, allowed is nothing else");
    let value = value.map(OsString::into_string).transpose().map_err(not_unicode)?;
    Ok(value.filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
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
        let (provider, options) = from_env(&[fake("memory")], |_| Some(OsString::new())).unwrap();
        assert_eq!((provider.name(), options.url.as_str()), ("memory", "fake://default"));
        assert_eq!(options.namespace, "polyqueue");
    }

    #[test]
    fn without_a_default_nothing_is_said_to_be_given() {
        let error = from_env(&[fake("redis")], |_| None).unwrap_err().to_string();
        assert!(error.contains("nothing given, linked in: redis"), "{error}");
    }

    #[test]
    fn what_is_taken_for_granted_is_said_with_the_variable() {
        let said = |provider: Option<&'static str>, url: Option<&str>| {
            let set = |name: &str| if name == PROVIDER_VAR { provider } else { url }.map(OsString::from);
            assumed(&fake(provider.filter(|name| !name.is_empty()).unwrap_or("memory")), set)
        };
        for (provider, url, variable) in [
            (None, None, Some(PROVIDER_VAR)),
            (Some(""), Some("fake://x"), Some(PROVIDER_VAR)),
            (Some("redis"), None, Some("FAKE_URL")),
            (Some("redis"), Some(""), Some("FAKE_URL")),
            (Some("redis"), Some("fake://x"), None),
            (Some("memory"), None, None),
        ] {
            let said = said(provider, url);
            assert_eq!(said.is_some(), variable.is_some(), "{said:?}");
            let said = said.unwrap_or_default();
            assert!(said.starts_with(variable.unwrap_or_default()), "{said}");
            assert_eq!(said.contains("fake://default"), variable == Some("FAKE_URL"), "{said}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf_8_is_refused_by_its_name() {
        use std::os::unix::ffi::OsStringExt as _;
        for broken in [PROVIDER_VAR, "FAKE_URL", NAMESPACE_VAR] {
            let set = |name: &str| (name == broken).then(|| OsString::from_vec(b"hunter2\xff".into()));
            let error = from_env(&[fake("memory")], set).unwrap_err().to_string();
            assert!(error.contains(broken) && !error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn times_that_cannot_be_reckoned_with_are_refused() {
        let options = || ConnectOptions::new("fake://x");
        for (options, name) in [
            (options().deadline(Duration::MAX), "deadline"),
            (options().deadline(Duration::ZERO), "deadline"),
            (options().clock_offset(TimeDelta::MAX), "clock offset"),
            (options().clock_offset(TimeDelta::MIN), "clock offset"),
        ] {
            let error = connect(&[fake("memory")], options).await.unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == name), "{error}");
        }
    }

    #[tokio::test]
    async fn a_bad_namespace_is_refused_before_anything_is_sent() {
        for namespace in ["", "Upper", "a b", &"x".repeat(49)] {
            let options = ConnectOptions::new("fake://x").namespace(namespace);
            let error = connect(&[fake("memory")], options).await.unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == "namespace"), "{error}");
        }
    }
}
