//! Queues that are bound, and what reached them.

use std::collections::BTreeSet;
use std::sync::Arc;

use polyqueue::{Destination, Error, Message, MessageId, Pattern, Queue, QueueName, QueueSpec, RoutingKey};

use super::hand::{drain_to_sentinel, once_each};
use super::publish::refused;
use crate::{Env, Fail, Outcome, ensure, ensure_eq};

pub(super) fn key(text: &str) -> Result<RoutingKey, Fail> {
    Ok(RoutingKey::new(text)?)
}

pub(super) fn pattern(text: &str) -> Result<Pattern, Fail> {
    Ok(Pattern::new(text)?)
}

/// A queue bound by these patterns.
pub(super) fn bound(env: &Env, name: &str, patterns: &[&str]) -> Result<QueueSpec, Fail> {
    let spec = QueueSpec::new(env.queue_name(name));
    patterns.iter().try_fold(spec, |spec, text| Ok(spec.bind(pattern(text)?)))
}

/// Declares a queue bound by these patterns.
pub(super) async fn declare_bound(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &str,
    patterns: &[&str],
) -> Result<QueueName, Fail> {
    let spec = bound(env, name, patterns)?;
    queue.declare(&spec).await?;
    Ok(spec.name)
}

/// Acks all that is ready; fails when a message is there twice.
pub(super) async fn came_to(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
) -> Result<BTreeSet<MessageId>, Fail> {
    once_each(drain_to_sentinel(env, queue, name).await?)
}

/// A publish to this topic reaches nobody, and says so for certain.
pub(super) async fn reaches_nobody(queue: &Arc<dyn Queue>, topic: &RoutingKey, message: Message) -> Outcome {
    let error = refused(queue.publish(&topic.into(), vec![message]).await)?;
    let named = matches!(&error, Error::NotFound(Destination::Topic(named)) if named == topic);
    ensure!(named, "NotFound of {topic:?} was expected: {error:?}");
    Ok(())
}

/// `Invalid` that names this field, for certain.
pub(super) fn invalid<T>(answer: polyqueue::Result<T>, named: &str) -> Outcome {
    match answer {
        Err(Error::Invalid { field, .. }) => {
            ensure_eq!(field, named, "the field that is named");
            Ok(())
        }
        Err(other) => Err(format!("Invalid {named} was expected, not {other:?}").into()),
        Ok(_) => Err(format!("Invalid {named} was expected, not Ok").into()),
    }
}
