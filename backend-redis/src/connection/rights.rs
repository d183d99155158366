//! What the user may do, asked once, when a handle is opened: later a script would be refused in its middle, without a name.

use std::collections::BTreeSet;
use std::sync::Arc;

use polyqueue::backend::Deadline;
use polyqueue::{Error, Result};

use crate::address::NAME;
use crate::connection::node::Node;
use crate::scripts;
use crate::wire::names;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// # Errors
/// [`Error::Denied`], with the commands that the user may not run.
pub(crate) async fn check_rights(node: &Arc<Node>, namespace: &str, limit: Deadline) -> Result<()> {
    let request = Request::on_keys(&scripts::RIGHTS, &[], &[&names::catalogue(namespace)]);
    let denied =
        node.call(request, limit).await.map_err(Error::definite)?.reply.into_list().unwrap_or_default();
    let denied: BTreeSet<String> = denied.into_iter().filter_map(Reply::into_text).collect();
    if denied.is_empty() {
        return Ok(());
    }
    let denied = denied.into_iter().collect::<Vec<_>>().join(", ");
    let what = format!(
        "{node}: the user may not run {denied} on the keys {namespace}:*: grant it what the documentation of polyqueue-redis lists"
    );
    Err(Error::denied(NAME, what))
}
