//! Waiting for room: a batch to a queue that makes its publishers wait is stored in order, item by item as room comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::{BatchCall, Batcher, Deadline, Jitter};
use polyqueue::{Certainty, Error, Published, QueueName, Result};
use tokio::time::{Instant, sleep_until};

use crate::connection::handle::Handle;
use crate::publish::outcome::{PublishOutcome, counts_of};
use crate::scripts;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// How long a publisher that nobody wakes waits before it looks again: from this, growing …
const LOOK: Duration = Duration::from_millis(25);
/// … to this, and half as much again by chance.
const LOOK_MOST: Duration = Duration::from_secs(1);

/// Sends items in order, one call after the other, each as soon as there is room.
pub(crate) async fn in_order<F, I>(
    handle: &Arc<Handle>,
    batcher: &Batcher<F>,
    items: Vec<I>,
) -> Vec<Result<Published>>
where
    F: BatchCall<Item = I, Answer = PublishOutcome<I>>,
{
    let limit = Deadline::new(F::NAME, handle.deadline);
    let mut answers: Vec<Option<Result<Published>>> = items.iter().map(|_| None).collect();
    let mut rest: VecDeque<(usize, I)> = items.into_iter().enumerate().collect();
    while !rest.is_empty() {
        if limit.is_over() {
            return finished(answers, &limit.error(Certainty::Definite));
        }
        let (places, load) = front::<F, I>(&mut rest);
        let (mut waiting, mut full) = (Vec::new(), None);
        for (place, answer) in places.into_iter().zip(batcher.call_now(load, limit).await) {
            match answer {
                Ok(PublishOutcome::Published(published)) => answers[place] = Some(Ok(published)),
                Err(error) => answers[place] = Some(Err(error)),
                Ok(PublishOutcome::Waits(item, queue)) => {
                    full.get_or_insert(queue);
                    waiting.push((place, item));
                }
            }
        }
        waiting.into_iter().rev().for_each(|item| rest.push_front(item));
        if let Some(queue) = full
            && let Err(error) = room(handle, &queue, limit).await
        {
            handle.meter.of(&queue).refused(rest.len() as u64);
            return finished(answers, &error);
        }
    }
    finished(answers, &limit.error(Certainty::Definite))
}

fn finished(answers: Vec<Option<Result<Published>>>, error: &Error) -> Vec<Result<Published>> {
    answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(error.clone()))).collect()
}

/// What goes into the next call, and where its answers go.
fn front<F: BatchCall<Item = I>, I>(rest: &mut VecDeque<(usize, I)>) -> (Vec<usize>, Vec<I>) {
    let (mut places, mut items, mut bytes) = (Vec::new(), Vec::new(), 0);
    while items.len() < F::MAX_ITEMS && bytes < F::MAX_BYTES {
        let Some((place, item)) = rest.pop_front() else { break };
        bytes += F::bytes(&item);
        places.push(place);
        items.push(item);
    }
    (places, items)
}

/// Waits until there is room: a claim tells, and now and then it looks by itself.
///
/// # Errors
/// When there is none in time, or the handle is closed; nothing was stored.
async fn room(handle: &Arc<Handle>, queue: &QueueName, limit: Deadline) -> Result<()> {
    let (number, signal) = handle.notifier.add();
    let _leave = Leave { handle, number };
    let waiter = handle.waiter(number);
    let (mut look, chance) = (LOOK, Jitter::default());
    // Whoever cannot be woken looks by itself.
    let _ = handle.listen(limit).await;
    loop {
        handle.check_open()?;
        if has_room(handle, queue, &waiter, limit).await {
            return Ok(());
        }
        let next = (Instant::now() + chance.between(look, look / 2)).min(limit.until());
        tokio::select! {
            () = signal.wait() => {}
            () = handle.lifecycle.closing() => {}
            () = sleep_until(next) => {}
        }
        if limit.is_over() {
            return Err(Error::no_room(queue, handle.deadline));
        }
        look = (look * 2).min(LOOK_MOST);
    }
}

/// Whether there is room, or the queue is gone; as long as nobody can say there is none.
async fn has_room(handle: &Arc<Handle>, queue: &QueueName, waiter: &str, limit: Deadline) -> bool {
    let mut request = Request::script(&scripts::SPACE, &QueueKeys::new(&handle.namespace, queue));
    request.arg(waiter);
    let Ok(answer) = handle.node.call(request, limit).await else { return false };
    let Reply::List(mut list) = answer.reply else { return true };
    let counts = list.pop().and_then(counts_of);
    counts.into_iter().flatten().for_each(|counts| counts.note(&handle.meter.of(queue)));
    list.pop().is_some_and(|room| room.count() == 1)
}

/// Leaves the signals when the wait ends, however it ends.
struct Leave<'a> {
    handle: &'a Handle,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.handle.notifier.remove(self.number);
    }
}
