//! Which broker a command talks to.

use std::sync::Arc;

use polyqueue::backend::redacted;
use polyqueue::{
    ConnectOptions, Error, NAMESPACE_VAR, Provider, Queue, QueueName, QueueSpec, connect, from_env,
};

use crate::exit::Result;
use crate::stderr;

const PROVIDERS: [Provider; 3] =
    [polyqueue_memory::PROVIDER, polyqueue_redis::PROVIDER, polyqueue_rabbitmq::PROVIDER];

/// The broker's address for people, without its password.
pub(crate) fn address(url: Option<&str>) -> String {
    match url {
        Some(url) => redacted(url),
        None => from_env(&PROVIDERS, |name| std::env::var_os(name))
            .map_or_else(|_| "none chosen".into(), |(_, options)| redacted(&options.url)),
    }
}

/// What `--url` or the environment names.
pub(crate) fn chosen(url: Option<&str>) -> Result<ConnectOptions> {
    match url {
        Some(url) => options(url),
        None => Ok(from_env(&PROVIDERS, |name| std::env::var_os(name))?.1),
    }
}

/// Connects and closes.
pub(crate) async fn reach(options: ConnectOptions) -> polyqueue::Result<()> {
    connect(&PROVIDERS, options).await?.close().await
}

/// Connects to `--url`, or to what the environment says.
pub(crate) async fn open(url: Option<&str>) -> Result<Arc<dyn Queue>> {
    let queue = match url {
        Some(url) => connect(&PROVIDERS, options(url)?).await?,
        None => polyqueue::connect_from_env(&PROVIDERS).await?,
    };
    Ok(noted(queue))
}

/// The same for who is content with memory.
pub(crate) async fn open_any(url: Option<&str>) -> Result<Arc<dyn Queue>> {
    if url.is_some() {
        return open(url).await;
    }
    let (provider, options) = from_env(&PROVIDERS, |name| std::env::var_os(name))?;
    Ok(noted(provider.connect(options).await?))
}

fn noted(queue: Arc<dyn Queue>) -> Arc<dyn Queue> {
    if !queue.info().shared {
        stderr::line("note: the memory provider lives in this process; nothing outlives it");
    }
    queue
}

fn options(url: &str) -> Result<ConnectOptions> {
    let options = ConnectOptions::new(url);
    match std::env::var_os(NAMESPACE_VAR).filter(|namespace| !namespace.is_empty()) {
        None => Ok(options),
        Some(namespace) => match namespace.into_string() {
            Ok(namespace) => Ok(options.namespace(namespace)),
            Err(given) => {
                Err(Error::invalid(NAMESPACE_VAR, format!("{given:?} given, which is not UTF-8")).into())
            }
        },
    }
}

/// Declares a queue where it does not exist, and leaves it alone where it does.
pub(crate) async fn ensure_declared(queue: &dyn Queue, spec: impl Into<QueueSpec>) -> Result<()> {
    let spec = spec.into();
    match find(queue, &spec.name).await? {
        Some(_) => Ok(()),
        None => Ok(queue.declare(&spec).await?),
    }
}

/// A queue as it was declared.
pub(crate) async fn find(queue: &dyn Queue, name: &QueueName) -> Result<Option<QueueSpec>> {
    Ok(queue.queues().await?.into_iter().find(|spec| spec.name == *name))
}
