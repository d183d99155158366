//! Queues that are bound, and what reached them.

use std::collections::BTreeSet;
use std::sync::Arc;

use polyqueue::{
    Certainty, Destination, Error, Message, MessageId, Pattern, Published, Queue, QueueName, QueueSpec,
    RoutingKey,
};

use super::hand::{drain_to_sentinel, once_each};
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

/// The error of a publish of one message that must have been refused for certain.
pub(super) fn refused(answer: polyqueue::Result<Vec<polyqueue::Result<Published>>>) -> Result<Error, Fail> {
    let error = match answer {
        Err(error) => error,
        Ok(mut items) if items.len() == 1 => match items.remove(0) {
            Err(error) => error,
            Ok(published) => return Err(format!("a publish that must fail answered {published:?}").into()),
        },
        Ok(items) => return Err(format!("{} answers to a publish of one message", items.len()).into()),
    };
    ensure_eq!(error.certainty(), Certainty::Definite, "whether the refusal is certain");
    Ok(error)
}
