//! Whether the server still tells us something, and hears us there: a connection that only listens looks well when it is half dead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use polyqueue::backend::{Deadline, background};
use polyqueue::{Certainty, Error};
use tokio::time::sleep;

use crate::address::NAME;
use crate::connection::handshake::Session;
use crate::connection::node::Node;

/// How long a server that answers may take to be heard where it tells.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Looks whether it does, unless somebody looks already. While it answers, and answers nothing where it is to tell, what it tells
/// is lost, or what it is asked there: the connections are made anew.
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
    let Ok(session) = node.session(&Deadline::new("listening", within)).await else { return };
    let ping = redis::cmd("PING");
    // Longer than it takes to be sure that there is none.
    let limit = Deadline::new("listening", within * 3);
    let dead = tokio::select! {
        biased;
        _ = node.exchange(&session, &session.listening, &ping, &limit, false) => false,
        dead = is_dead(node, &session, within) => dead,
    };
    if dead {
        let why = format!("no answer within {within:?} where it tells, and it answers elsewhere");
        node.lost(session.generation, &Error::unavailable(NAME, Certainty::Unknown, why));
    }
}

/// Whether what was asked a moment ago where the server tells has no answer and never gets one: nothing comes there at all, or what
/// was said later. What is only slow is left alone.
async fn is_dead(node: &Arc<Node>, session: &Session, within: Duration) -> bool {
    let answers = async |request: &redis::Cmd| {
        let limit = Deadline::new("listening", within);
        node.exchange(session, &session.asking, request, &limit, false).await.is_ok()
    };
    let ping = redis::cmd("PING");
    let (is_up, ()) = tokio::join!(answers(&ping), sleep(within));
    if !is_up || session.listening.progress.silence() >= within.mul_f64(0.9) {
        return is_up;
    }
    let (mark, request) = node.marks.make();
    if !answers(request.command()).await {
        return false;
    }
    node.marks.heard(mark).await;
    true
}
