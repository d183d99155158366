//! The catalogue: which queues there are, and which of them a topic reaches. What is known of it is used as long as its
//! version stands: the script that publishes looks.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use polyqueue::backend::{Deadline, stored_spec};
use polyqueue::{Certainty, Error, QueueName, QueueSpec, Result, RoutingKey};

use crate::address::NAME;
use crate::connection::node::Node;
use crate::scripts;
use crate::wire::names;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// The most routing keys whose routes are kept.
const MAX_ROUTES: usize = 1000;

/// The catalogue as one handle knows it.
pub(crate) struct Catalogue {
    node: Arc<Node>,
    namespace: String,
    known: Mutex<Option<Arc<Table>>>,
}

/// The catalogue at one version.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) version: String,
    /// Those that are bound, by name.
    pub(crate) queues: Vec<Bound>,
    routes: Mutex<HashMap<RoutingKey, Arc<[usize]>>>,
}

/// A queue that is bound.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) spec: QueueSpec,
    pub(crate) keys: QueueKeys,
}

impl Catalogue {
    pub(crate) fn new(node: Arc<Node>, namespace: String) -> Self {
        Self { node, namespace, known: Mutex::default() }
    }

    /// All queues, by name.
    pub(crate) async fn queues(&self, limit: Deadline) -> Result<Vec<QueueSpec>> {
        Ok(self.read(limit).await?.1)
    }

    /// What it says of one queue, as it is written there.
    pub(crate) async fn text_of(&self, queue: &QueueName, limit: Deadline) -> Result<Option<String>> {
        let mut request = Request::plain("HGET");
        request.arg(names::catalogue(&self.namespace)).arg(queue.as_str());
        Ok(self.node.call(request, limit).await?.reply.into_text())
    }

    /// What is known; read when nothing is.
    pub(crate) async fn known(&self, limit: Deadline) -> Result<Arc<Table>> {
        let known = self.known.lock().clone();
        match known {
            Some(table) => Ok(table),
            None => self.reload(limit).await,
        }
    }

    /// What stands now: `table`, or a newer one.
    pub(crate) async fn newer(&self, table: Arc<Table>, limit: Deadline) -> Result<Arc<Table>> {
        let mut request = Request::plain("GET");
        request.arg(names::version(&self.namespace));
        let version = self.node.call(request, limit).await?.reply.into_text().unwrap_or_default();
        if version == table.version { Ok(table) } else { self.reload(limit).await }
    }

    /// Reads it again.
    pub(crate) async fn reload(&self, limit: Deadline) -> Result<Arc<Table>> {
        let (version, specs) = self.read(limit).await?;
        let table = Arc::new(Table::new(version, specs, &self.namespace));
        *self.known.lock() = Some(table.clone());
        Ok(table)
    }

    async fn read(&self, limit: Deadline) -> Result<(String, Vec<QueueSpec>)> {
        let (catalogue, version) = (names::catalogue(&self.namespace), names::version(&self.namespace));
        let request = Request::on_keys(&scripts::ROUTES, &[], &[&catalogue, &version]);
        let reply = self.node.call(request, limit).await?.reply;
        let strange = || Error::backend(NAME, Certainty::Definite, "a catalogue that is none");
        let (version, texts) = entries(reply).ok_or_else(strange)?;
        let mut specs: Vec<_> = texts.chunks(2).filter_map(readable).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((version, specs))
    }
}

impl Table {
    fn new(version: String, specs: Vec<QueueSpec>, namespace: &str) -> Self {
        let bound = specs.into_iter().filter(|spec| !spec.bindings.is_empty());
        let bound = bound.map(|spec| Bound { keys: QueueKeys::new(namespace, &spec.name), spec });
        Self { version, queues: bound.collect(), routes: Mutex::default() }
    }

    /// The positions of the queues that a topic reaches.
    pub(crate) fn route(&self, key: &RoutingKey) -> Arc<[usize]> {
        if let Some(route) = self.routes.lock().get(key) {
            return route.clone();
        }
        let matches = |bound: &Bound| bound.spec.bindings.iter().any(|pattern| pattern.matches(key));
        let queues = self.queues.iter().enumerate();
        let route: Arc<[usize]> = queues.filter(|(_, bound)| matches(bound)).map(|(at, _)| at).collect();
        let mut routes = self.routes.lock();
        if routes.len() >= MAX_ROUTES {
            routes.clear();
        }
        routes.insert(key.clone(), route.clone());
        route
    }
}

/// What the catalogue says of a queue.
///
/// # Errors
/// [`Error::Backend`] for what none of us has written.
pub(crate) fn parse(name: &str, text: &str) -> Result<QueueSpec> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = stored_spec(&mut json).and_then(|spec| json.end().map(|()| spec));
    read.map_err(|error| {
        let what = format!("the catalogue says of queue {name:?} what cannot be read: {error}");
        Error::backend(NAME, Certainty::Definite, what)
    })
}

/// What nobody can read harms its own queue only: no topic reaches it, and no list shows it.
fn readable(pair: &[Bytes]) -> Option<QueueSpec> {
    let [name, text] = pair else { return None };
    let (name, text) = (String::from_utf8_lossy(name), String::from_utf8_lossy(text));
    let spec = parse(&name, &text);
    if let Err(error) = &spec {
        tracing::warn!(name: "redis.unreadable_queue", queue = %name, %error, "an entry of the catalogue cannot be read: its queue alone cannot be used");
    }
    spec.ok()
}

fn entries(reply: Reply) -> Option<(String, Vec<Bytes>)> {
    let [version, specs] = <[Reply; 2]>::try_from(reply.into_list()?).ok()?;
    let texts = specs.into_list()?.into_iter().map(Reply::into_bytes);
    Some((version.into_text()?, texts.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::Pattern;

    fn spec(name: &'static str, patterns: &[&str]) -> QueueSpec {
        let spec = QueueSpec::new(QueueName::from_static(name));
        patterns.iter().fold(spec, |spec, pattern| spec.bind(Pattern::new(pattern).unwrap()))
    }

    #[test]
    fn a_topic_reaches_each_queue_that_is_bound_once() {
        let specs = vec![spec("all", &["#", "a.*"]), spec("none", &[]), spec("some", &["a.b"])];
        let table = Table::new("1".into(), specs, "ns");
        let reached = |key| {
            let route = table.route(&RoutingKey::new(key).unwrap());
            route.iter().map(|&at| table.queues[at].spec.name.as_str().to_owned()).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            assert_eq!(reached("a.b"), ["all", "some"]);
            assert_eq!(reached("c"), ["all"]);
        }
    }

    #[test]
    fn routes_that_are_kept_are_bounded() {
        let table = Table::new("1".into(), vec![spec("all", &["#"])], "ns");
        for n in 0..3 * MAX_ROUTES {
            assert_eq!(table.route(&RoutingKey::new(format!("k.{n}")).unwrap()).len(), 1);
        }
        assert!(table.routes.lock().len() <= MAX_ROUTES);
    }
}
