//! What was for a consumer that has gone: another is woken in its place, a message goes back.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::Deadline;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::connection::node::Node;
use crate::connection::notifier::{Orphan, Orphaned};
use crate::consume::pushed::Pushed;
use crate::consume::{claim, pushed};
use crate::wire::names::QueueKeys;

/// Sees to orphans until the handle has ended.
pub(crate) async fn run(mut orphans: UnboundedReceiver<Orphan>) {
    while let Some(Orphan { node, what }) = orphans.recv().await {
        match what {
            Orphaned::WakeUp(keys) => drop(tokio::spawn(pass_on(node, keys))),
            Orphaned::Message(text) => match Pushed::read(text) {
                Some(pushed) => drop(tokio::spawn(pushed.give_back(node))),
                None => pushed::warn(),
            },
        }
    }
}

/// Wakes another waiting consumer. Should it fail, the others ask by themselves within five seconds.
pub(crate) async fn pass_on(node: Arc<Node>, keys: QueueKeys) {
    let limit = Deadline::new("passing on a wake-up", Duration::from_secs(5));
    let _ = node.call(claim::nothing(&keys), limit).await;
}
