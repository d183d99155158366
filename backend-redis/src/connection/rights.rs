//! What the user may do, asked when a handle is opened, and with its health: a script would be refused in its middle, without a name.

use std::sync::Arc;

use polyqueue::backend::Deadline;
use polyqueue::{Error, Result};

use crate::address::NAME;
use crate::connection::denied;
use crate::connection::node::Node;
use crate::wire::names;

/// # Errors
/// [`Error::Denied`], with the commands that the user may not run.
pub(crate) async fn check_rights(node: &Arc<Node>, namespace: &str, limit: Deadline) -> Result<()> {
    let question = denied::question(&names::catalogue(namespace));
    let denied = denied::commands(node.call(question, limit).await.map_err(Error::definite)?.reply);
    if denied.is_empty() {
        return Ok(());
    }
    let denied = denied.into_iter().collect::<Vec<_>>().join(", ");
    let what = format!(
        "{node}: the user may not run {denied} on the keys {namespace}:*: grant it what the documentation of polyqueue-redis lists"
    );
    Err(Error::denied(NAME, what))
}
