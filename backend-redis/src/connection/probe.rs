//! Whether a server does what it is there for, asked when somebody asks for the health. Nothing is written.

use std::sync::Arc;

use polyqueue::backend::{Deadline, PublishBlock};
use polyqueue::{Certainty, Error, Result};

use crate::address::NAME;
use crate::connection::handshake::Line;
use crate::connection::listening::check_listening;
use crate::connection::node::Node;
use crate::scripts;
use crate::wire::request::Request;

/// Whether both connections answer.
///
/// # Errors
/// Which does not, or why there is none.
pub(crate) async fn both_answer(node: &Arc<Node>, limit: Deadline) -> Result<()> {
    let session = node.session(&limit).await?;
    let answers = async |line: &Line, which: &str| {
        let answer = node.exchange(&session, line, &redis::cmd("PING"), &limit, false).await;
        answer.map(drop).map_err(|fault| {
            let error = node.judge(&session, fault);
            let said = format!("{node}, the connection {which}: {error}");
            Error::unavailable(NAME, Certainty::Unknown, said)
        })
    };
    let tells = async {
        let answered = answers(&session.listening, "that listens").await;
        answered.inspect_err(|_| check_listening(node))
    };
    tokio::try_join!(answers(&session.asking, "that asks"), tells).map(drop)
}

/// Waits until all was heard that the server has said up to now.
/// Answers whether it was: else some may be lost.
pub(crate) async fn await_notifications(node: &Arc<Node>, limit: Deadline) -> bool {
    let Some(session) = node.session_at_once() else { return false };
    let ping = redis::cmd("PING");
    let heard = node.exchange(&session, &session.listening, &ping, &limit, false).await;
    heard.map_err(|fault| node.judge(&session, fault)).is_ok()
}

/// Whether the server takes messages. What has changed since the last look is told.
///
/// # Errors
/// It does not, or does not answer.
pub(crate) async fn takes_messages(node: &Arc<Node>, block: &PublishBlock, limit: Deadline) -> Result<()> {
    let session = node.session(&limit).await?;
    let request = Request::on_keys(&scripts::WRITABLE, &[], &[]);
    let Err(fault) = node.ask(&session, &session.asking, &request, &limit, false).await else {
        block.end();
        return Ok(());
    };
    let Some(why) = fault.blocks_writes().map(|why| format!("{node}: the server blocks publishes: {why}"))
    else {
        return Err(node.judge(&session, fault));
    };
    block.begin(&why);
    node.judge(&session, fault);
    Err(Error::unavailable(NAME, Certainty::Definite, why))
}
