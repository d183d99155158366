//! The catalogue: which queues there are, and which of them a topic reaches. What is known of it is used as long as its
//! version stands: the script that publishes looks.

use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::backend::{Deadline, stored_spec};
use polyqueue::{Certainty, Error, QueueName, QueueSpec, Result};

use crate::address::NAME;
use crate::connection::node::Node;
use crate::scripts;
use crate::topology::table::{Change, Table};
use crate::wire::names;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// The catalogue as one handle knows it.
pub(crate) struct Catalogue {
    node: Arc<Node>,
    namespace: String,
    known: Mutex<Option<Arc<Table>>>,
}

impl Catalogue {
    pub(crate) fn new(node: Arc<Node>, namespace: String) -> Self {
        Self { node, namespace, known: Mutex::default() }
    }

    /// All queues, by name.
    pub(crate) async fn queues(&self, limit: Deadline) -> Result<Vec<QueueSpec>> {
        let mut specs: Vec<_> =
            self.read("", limit).await?.entries.into_iter().filter_map(|it| it.1).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(specs)
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

    /// Reads what has changed since it was read last.
    pub(crate) async fn reload(&self, limit: Deadline) -> Result<Arc<Table>> {
        let known = self.known.lock().clone();
        let Reading { version, is_all, entries } =
            self.read(known.as_ref().map_or("", |table| &table.version), limit).await?;
        let table = match known {
            Some(known) if !is_all => known.changed(version, entries, &self.namespace),
            _ => {
                let specs = entries.into_iter().filter_map(|(_, spec)| spec).collect();
                Table::new(version, specs, &self.namespace)
            }
        };
        let table = Arc::new(table);
        *self.known.lock() = Some(table.clone());
        Ok(table)
    }

    /// What is known is not what is there: the whole is read next.
    pub(crate) fn forget(&self) {
        *self.known.lock() = None;
    }

    /// All of it, or, where the server knows, what has changed since this version.
    async fn read(&self, known: &str, limit: Deadline) -> Result<Reading> {
        let keys = [names::catalogue, names::version, names::changes].map(|name| name(&self.namespace));
        let mut request = Request::on_keys(&scripts::ROUTES, &[], &keys.each_ref().map(String::as_str));
        request.arg(known);
        let reply = self.node.call(request, limit).await?.reply;
        let strange = || Error::backend(NAME, Certainty::Definite, "a catalogue that is none");
        Reading::of(reply).ok_or_else(strange)
    }
}

/// An answer to who reads the catalogue.
struct Reading {
    version: String,
    /// Whether these are all, or those that have changed.
    is_all: bool,
    entries: Vec<Change>,
}

impl Reading {
    fn of(reply: Reply) -> Option<Self> {
        let [version, is_all, entries] = <[Reply; 3]>::try_from(reply.into_list()?).ok()?;
        let texts = entries.into_list()?.into_iter().map(Reply::into_bytes).collect::<Option<Vec<_>>>()?;
        let entries = texts.chunks_exact(2).filter_map(|pair| readable(&pair[0], &pair[1])).collect();
        Some(Self { version: version.into_text()?, is_all: is_all.number()? == 1, entries })
    }
}

/// What the catalogue says of a queue.
///
/// # Errors
/// [`Error::Backend`] for what none of us has written.
pub(crate) fn parse(name: &str, text: &str) -> Result<QueueSpec> {
    let mut json = serde_json::Deserializer::from_str(text);
    let unreadable = |error: String| {
        let what = format!("the catalogue says of queue {name:?} what cannot be read: {error}");
        Error::backend(NAME, Certainty::Definite, what)
    };
    let read = stored_spec(&mut json).and_then(|spec| json.end().map(|()| spec));
    let spec = read.map_err(|error| unreadable(error.to_string()))?;
    if spec.name.as_str() == name {
        Ok(spec)
    } else {
        Err(unreadable(format!("it is of queue {}", spec.name)))
    }
}

/// What nobody can read harms its own queue only: no topic reaches it, and no list shows it. Nothing for a name that is none.
fn readable(name: &[u8], text: &[u8]) -> Option<Change> {
    let (name, text) = (String::from_utf8_lossy(name), String::from_utf8_lossy(text));
    let queue = QueueName::new(name.as_ref()).ok();
    if text.is_empty() {
        return Some((queue?, None));
    }
    let spec = parse(&name, &text);
    if let Err(error) = &spec {
        tracing::warn!(name: "redis.unreadable_queue", queue = %name, %error, "an entry of the catalogue cannot be read: its queue alone cannot be used");
    }
    Some((queue?, spec.ok()))
}
