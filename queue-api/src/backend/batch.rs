//! The items of one caller of a [`Batcher`](super::Batcher), on their way in one call or several, and their answers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{Certainty, Error, Result};

/// Where an item's answer goes.
pub(super) struct Place<A> {
    batch: Arc<Batch<A>>,
    index: usize,
}

/// The items of one caller.
pub(super) struct Batch<A>(Mutex<Progress<A>>);

struct Progress<A> {
    items: Vec<Item<A>>,
    unanswered: usize,
    abandoned: bool,
    done: Option<oneshot::Sender<()>>,
}

enum Item<A> {
    Waiting,
    Sent,
    Answered(Result<A>),
}

impl<A> Batch<A> {
    /// The receiver hears when all are answered.
    pub(super) fn new(items: usize) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (done, receiver) = oneshot::channel();
        let waiting = std::iter::repeat_with(|| Item::Waiting).take(items).collect();
        let progress = Progress { items: waiting, unanswered: items, abandoned: false, done: Some(done) };
        (Arc::new(Self(Mutex::new(progress))), receiver)
    }

    /// The places of its items, in order.
    pub(super) fn places(self: &Arc<Self>) -> impl Iterator<Item = Place<A>> {
        let batch = self.clone();
        (0..).map(move |index| Place { batch: batch.clone(), index })
    }

    /// All answers; what has none by now is not sent any more, because of the `obstacle` where there is one, or may have happened.
    pub(super) fn answers(
        &self,
        name: &'static str,
        deadline: Duration,
        obstacle: Option<Error>,
    ) -> Vec<Result<A>> {
        let mut progress = self.0.lock();
        progress.abandoned = true;
        let late = |certainty| Error::timeout(name, deadline, certainty);
        let unsent = obstacle.map_or_else(|| late(Certainty::Definite), Error::definite);
        let items = std::mem::take(&mut progress.items).into_iter();
        items
            .map(|item| match item {
                Item::Waiting => Err(unsent.clone()),
                Item::Sent => Err(late(Certainty::Unknown)),
                Item::Answered(answer) => answer,
            })
            .collect()
    }
}

impl<A> Place<A> {
    /// Whether the item is still wanted; it counts as sent from now on.
    pub(super) fn take(&self) -> bool {
        let mut progress = self.batch.0.lock();
        if !progress.abandoned {
            progress.items[self.index] = Item::Sent;
        }
        !progress.abandoned
    }

    pub(super) fn answer(self, answer: Result<A>) {
        let mut progress = self.batch.0.lock();
        if progress.abandoned {
            return;
        }
        progress.items[self.index] = Item::Answered(answer);
        progress.unanswered -= 1;
        if progress.unanswered == 0
            && let Some(done) = progress.done.take()
        {
            let _ = done.send(());
        }
    }
}
