//! Messages that came back, until it is known whose they are: looked up beside the moves, which wait for none of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use crate::delay::held::Held;
use crate::delay::owner::{Owner, Owners};

/// How long one look may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How many messages wait for a look, at most.
const MOST: usize = 1_000;
/// How many namespaces are looked into at a time.
const AT_ONCE: usize = 8;

/// Messages of one namespace, each with whose it is; `None` where that could not be known in time.
pub(crate) type Found = (String, Vec<(Held, Option<Owner>)>);

/// What came back.
pub(crate) struct Returned {
    owners: Arc<Owners>,
    waiting: HashMap<String, Vec<Held>>,
    count: usize,
    under_way: FuturesUnordered<BoxFuture<'static, Found>>,
    /// The namespaces that are looked into.
    busy: Vec<String>,
}

impl Returned {
    pub(crate) fn new(owners: Owners) -> Self {
        let (waiting, under_way, busy) = Default::default();
        Self { owners: Arc::new(owners), waiting, count: 0, under_way, busy }
    }

    /// Takes one up, unless there are too many.
    pub(crate) fn put(&mut self, held: Held) -> Option<Held> {
        if self.count >= MOST {
            return Some(held);
        }
        self.count += 1;
        self.waiting.entry(held.ticket.namespace.clone()).or_default().push(held);
        self.begin();
        None
    }

    /// Begins to look for all that can be looked for.
    fn begin(&mut self) {
        while self.busy.len() < AT_ONCE {
            let next = self.waiting.keys().find(|namespace| !self.busy.contains(namespace)).cloned();
            let Some(namespace) = next else { return };
            let Some(held) = self.waiting.remove(&namespace) else { return };
            self.busy.push(namespace.clone());
            self.under_way.push(look(self.owners.clone(), namespace, held).boxed());
        }
    }

    /// The next that is known, if any is looked for.
    pub(crate) async fn next(&mut self) -> Option<Found> {
        let found = self.under_way.next().await?;
        self.busy.retain(|namespace| *namespace != found.0);
        self.count -= found.1.len();
        self.begin();
        Some(found)
    }

    /// Whether nothing is looked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}

async fn look(owners: Arc<Owners>, namespace: String, held: Vec<Held>) -> Found {
    let tickets = held.iter().map(|held| held.ticket.clone()).collect();
    let known = match timeout(LIMIT, owners.of(&namespace, tickets)).await {
        Ok(Ok(known)) => known.into_iter().map(Some).collect(),
        failed => {
            let error = failed.err().map_or_else(|| "no answer in time".to_owned(), |late| late.to_string());
            tracing::debug!(name: "rabbitmq.owner_unknown", %namespace, %error, "whose delayed messages are could not be looked up");
            vec![None; held.len()]
        }
    };
    (namespace, held.into_iter().zip(known).collect())
}
