//! What a script could not do with single items of a call: told to health as a call is that was refused as a whole.

use std::sync::Arc;

use polyqueue::backend::Deadline;
use polyqueue::{Error, Result};

use crate::connection::denied;
use crate::connection::node::Node;
use crate::wire::names::QueueKeys;

/// Notes the first item that the server refused, of a call on a queue; what is denied is named.
pub(crate) async fn note<T>(node: &Arc<Node>, keys: &QueueKeys, answers: &mut [Result<T>], limit: Deadline) {
    let is_refusal = |error: &Error| matches!(error, Error::Denied { .. } | Error::Backend { .. });
    let Some(first) = answers.iter().find_map(|answer| answer.as_ref().err().filter(|it| is_refusal(it)))
    else {
        return;
    };
    node.refusals.refused(limit.what(), keys.prefix(), &first.to_string());
    if !denied::is_unnamed(first) {
        return;
    }
    let Ok(answer) = node.call(denied::question(keys.queue()), limit).await else { return };
    let commands = denied::commands(answer.reply);
    for error in answers.iter_mut().filter_map(|answer| answer.as_mut().err()) {
        if denied::is_unnamed(error) {
            *error = denied::named(error.clone(), commands.clone());
        }
    }
}
