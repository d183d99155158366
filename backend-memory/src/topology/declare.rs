//! Declaring, unbinding and deleting.

use std::sync::Arc;

use polyqueue::{Error, Pattern, QueueName, QueueSpec, Result};

use crate::broker::declared::Declared;
use crate::broker::locked_queue::LockedQueue;
use crate::broker::queue_ref::QueueRef;
use crate::broker::state::admin;
use crate::connection::handle::Handle;
use crate::mutants::{Bug, planted};

/// Makes a queue, or binds the one that is there.
///
/// # Errors
/// `Invalid` when the one that is there differs.
pub(crate) fn declare(handle: &Handle, spec: &QueueSpec) -> Result<()> {
    let mut queues = handle.namespace.queues.write();
    if let Some(declared) = queues.declared(&spec.name) {
        spec.check_redeclared(&declared.spec)?;
        queues.bind(&spec.name, &spec.bindings);
        return Ok(());
    }
    let queue = Arc::new(LockedQueue::new(spec, handle.clock.clone(), handle.events.clone()));
    queues.insert(Declared { spec: spec.clone(), queue });
    tracing::debug!(name: "memory.queue_declared", queue = %spec.name, "made a queue");
    Ok(())
}

/// # Errors
/// `NotFound` for an unknown queue; a binding that is not there is none.
pub(crate) fn unbind(handle: &Handle, name: &QueueName, pattern: &Pattern) -> Result<()> {
    let queue = {
        let mut queues = handle.namespace.queues.write();
        let queue = queues.get(name).cloned().ok_or_else(|| Error::not_found(name))?;
        if !planted(Bug::UnbindForgets) {
            queues.unbind(name, pattern);
        }
        queue
    };
    // Whoever found the binding there has stored his copy by then.
    QueueRef::new(queue, handle.meter.of(name)).hold(|_, _| ());
    Ok(())
}

/// # Errors
/// `NotFound` for an unknown queue.
pub(crate) async fn delete(handle: &Handle, queue: &QueueName) -> Result<()> {
    let removed = handle.namespace.queues.write().remove(queue);
    let removed = removed.ok_or_else(|| Error::not_found(queue))?;
    let queue_ref = QueueRef::new(removed.queue, handle.meter.of(queue));
    queue_ref.hold(|queue, _| admin::delete(queue));
    tracing::debug!(name: "memory.queue_deleted", %queue, "removed a queue with all it held");
    // What it held is let go of, while there is time; the queue is gone in any case.
    let _ = queue_ref.call(handle.deadline("delete"), |_| ()).await;
    Ok(())
}
