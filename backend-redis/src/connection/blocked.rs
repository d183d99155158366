//! A server that has refused a write: whether it refuses all of them, and until when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use polyqueue::backend::{Deadline, EventSender, PublishBlock, background};
use tokio::time::sleep;

use crate::connection::node::Node;
use crate::connection::probe::takes_messages;

/// How often it is asked while it refuses.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Whether the server blocks publishes, and whether somebody looks whether it still does.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) block: PublishBlock,
    watched: AtomicBool,
}

impl Blocked {
    pub(crate) fn new(events: EventSender) -> Arc<Self> {
        Arc::new(Self { block: PublishBlock::new(events), watched: AtomicBool::new(false) })
    }
}

/// The server has refused a write, maybe only this one: looks, and goes on to look until it takes them again.
pub(crate) fn watch(blocked: &Arc<Blocked>, node: &Arc<Node>) {
    if !blocked.watched.swap(true, Ordering::AcqRel) {
        let (blocked, node) = (blocked.clone(), Arc::downgrade(node));
        background().spawn(async move {
            until_it_takes(&blocked.block, node).await;
            blocked.watched.store(false, Ordering::Release);
        });
    }
}

async fn until_it_takes(block: &PublishBlock, node: Weak<Node>) {
    while let Some(node) = node.upgrade() {
        if node.is_closed() || takes_messages(&node, block, Deadline::new("health", LOOK_AGAIN)).await.is_ok()
        {
            return;
        }
        drop(node);
        sleep(LOOK_AGAIN).await;
    }
}
