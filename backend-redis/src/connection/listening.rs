//! Whether the server still tells us something: a connection that only listens looks well when it is half dead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use polyqueue::backend::{Deadline, background};

use crate::connection::node::Node;

/// How long a server that answers may take to be heard where it tells.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Looks whether it does, unless somebody looks already. While it answers, and nothing comes where it is to tell, what it tells
/// is lost: the connections are made anew.
pub(crate) fn check_listening(node: &Arc<Node>) {
    if !node.checking.swap(true, Ordering::AcqRel) {
        let node = node.clone();
        background().spawn(async move {
            check(&node).await;
            node.checking.store(false, Ordering::Release);
        });
    }
}

async fn check(node: &Arc<Node>) {
    let within = TOLD_WITHIN.min(node.open_within);
    let limit = Deadline::new("listening", within);
    let Ok(session) = node.session(&limit).await else { return };
    let ping = redis::cmd("PING");
    let asked = node.exchange(&session, &session.asking, &ping, &limit, false);
    let told = node.exchange(&session, &session.listening, &ping, &limit, false);
    if let (Ok(_), Err(fault)) = tokio::join!(asked, told) {
        let heard_late = session.listening.progress.silence() < within.mul_f64(0.9);
        if !heard_late {
            node.lost(session.generation, &fault.into_error(&node.address));
        }
    }
}
