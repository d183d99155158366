//! What stands above every queue, written once: sending one message, and dead letters by filter.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::{
    Certainty, DeadFilter, DeadId, Destination, Error, IntoDestination, Message, Page, Payload, Published,
    Queue, QueueName, Result,
};

/// The most dead letters that one call to the broker redrives or discards.
const CHUNK: usize = 100;

/// Conveniences for every [`Queue`], which no backend implements and no layer overrides.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> polyqueue::Result<()> {
/// use polyqueue::{Payload, QueueExt, QueueName, QueueSpec};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Welcome { user: String }
/// impl Payload for Welcome { const KIND: &'static str = "welcome"; }
///
/// const MAIL: QueueName = QueueName::from_static("mail");
/// # let queue = polyqueue::connect_from_env(&[polyqueue_memory::PROVIDER]).await?;
/// queue.declare(&QueueSpec::new(MAIL)).await?;
/// let published = queue.send(MAIL, &Welcome { user: "Ada".into() }).await?;
/// println!("{} is on its way", published.id);
/// # Ok(()) }
/// ```
pub trait QueueExt: Queue {
    /// Publishes a typed payload as JSON, with its kind and schema version.
    ///
    /// # Errors
    /// As [`Message::of`] when it cannot be written as JSON; else as [`QueueExt::publish_one`].
    fn send<T: Payload>(
        &self,
        to: impl IntoDestination,
        payload: &T,
    ) -> impl Future<Output = Result<Published>> + Send {
        let (to, message) = (to.into(), Message::of(payload));
        async move { publish_one(self, to, message?).await }
    }

    /// Publishes one message.
    ///
    /// # Errors
    /// As [`Queue::publish`]. After one whose [certainty](Error::certainty) is `Unknown` the message may be there.
    fn publish_one(
        &self,
        to: impl IntoDestination,
        message: Message,
    ) -> impl Future<Output = Result<Published>> + Send {
        publish_one(self, to.into(), message)
    }

    /// Sends a reply to where `request` awaits one, with its correlation id (its id, where it has none); `None` where it awaits
    /// none.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nobody awaits it any more; else as [`Queue::publish`].
    fn reply(
        &self,
        request: &Message,
        reply: Message,
    ) -> impl Future<Output = Result<Option<Published>>> + Send {
        let id = request.correlation_id().unwrap_or(request.id().as_str());
        let (to, reply) = (request.reply_to().cloned(), reply.with_correlation_id(id));
        async move {
            match to {
                Some(address) => publish_one(self, address.into(), reply).await.map(Some),
                None => Ok(None),
            }
        }
    }

    /// Makes the dead letters that match ready again, oldest first, and answers how many were.
    ///
    /// Only letters of before: a listing ends with what was there when it began, so that one which dies again meanwhile is not
    /// redriven again. It goes page by page, and holds one page in memory. After an error the same call goes on where this one
    /// ended, for what was redriven is no dead letter any more.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a rate of 0; else as [`Admin::dead_letters`](crate::Admin::dead_letters) and
    /// [`Admin::redrive`](crate::Admin::redrive).
    fn redrive_where(
        &self,
        queue: &QueueName,
        filter: &DeadFilter,
        options: RedriveOptions,
    ) -> impl Future<Output = Result<u64>> + Send {
        async move {
            let mut pace = Pace::new(options.per_second)?;
            let (mut pages, mut redriven) = (Pages::new(queue, filter, options.limit), 0);
            while let Some(ids) = pages.next(self).await? {
                for chunk in ids.chunks(pace.chunk) {
                    pace.wait().await;
                    redriven += count(&self.redrive(queue, chunk).await?);
                }
            }
            Ok(redriven)
        }
    }

    /// Removes the dead letters that match for good, oldest first, `limit` at most, and answers how many were removed.
    /// Only letters of before, as in [`QueueExt::redrive_where`]; after an error the same call goes on.
    ///
    /// # Errors
    /// As [`Admin::dead_letters`](crate::Admin::dead_letters) and [`Admin::discard`](crate::Admin::discard).
    fn discard_where(
        &self,
        queue: &QueueName,
        filter: &DeadFilter,
        limit: Option<usize>,
    ) -> impl Future<Output = Result<u64>> + Send {
        async move {
            let (mut pages, mut discarded) = (Pages::new(queue, filter, limit), 0);
            while let Some(ids) = pages.next(self).await? {
                for chunk in ids.chunks(CHUNK) {
                    discarded += count(&self.discard(queue, chunk).await?);
                }
            }
            Ok(discarded)
        }
    }
}

impl<Q: Queue + ?Sized> QueueExt for Q {}

/// How [`QueueExt::redrive_where`] goes about it. The default: all that match, as fast as the broker takes them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RedriveOptions {
    /// The most letters to redrive; `None`: all.
    pub limit: Option<usize>,
    /// The most letters to redrive in a second; `None`: no bound.
    pub per_second: Option<u32>,
}

impl RedriveOptions {
    /// The same for the oldest `letters` only.
    #[must_use]
    pub fn limit(mut self, letters: usize) -> Self {
        self.limit = Some(letters);
        self
    }

    /// The same at no more than `letters` a second, at least 1.
    #[must_use]
    pub fn per_second(mut self, letters: u32) -> Self {
        self.per_second = Some(letters);
        self
    }
}

async fn publish_one<Q: Queue + ?Sized>(queue: &Q, to: Destination, message: Message) -> Result<Published> {
    let mut answers = queue.publish(&to, vec![message]).await?;
    let silent = || Error::backend(queue.info().provider, Certainty::Unknown, "no answer to a publish");
    answers.pop().unwrap_or_else(|| Err(silent()))
}

/// The oldest letters that match, a page at a time.
struct Pages<'a> {
    name: &'a QueueName,
    filter: &'a DeadFilter,
    /// How many more are wanted.
    left: usize,
    /// Where to go on; `None` at the end.
    page: Option<Page>,
}

impl<'a> Pages<'a> {
    fn new(name: &'a QueueName, filter: &'a DeadFilter, limit: Option<usize>) -> Self {
        Self { name, filter, left: limit.unwrap_or(usize::MAX), page: Some(Page::first(Page::MAX)) }
    }

    /// The ids of the next, which may be none; `None` after the last.
    async fn next<Q: Queue + ?Sized>(&mut self, queue: &Q) -> Result<Option<Vec<DeadId>>> {
        let Some(page) = self.page.take().filter(|_| self.left > 0) else { return Ok(None) };
        let page = Page { limit: Page::MAX.min(self.left), ..page };
        let found = queue.dead_letters(self.name, self.filter, page).await?;
        self.left -= found.dead_letters.len().min(self.left);
        self.page = found.next.map(|next| Page::after(next, Page::MAX));
        Ok(Some(found.dead_letters.into_iter().map(|letter| letter.id).collect()))
    }
}

fn count(answers: &[bool]) -> u64 {
    answers.iter().filter(|&&done| done).count() as u64
}

/// Chunks of a size, at instants that keep a rate.
struct Pace {
    chunk: usize,
    every: Duration,
    start: Instant,
    nth: u32,
}

impl Pace {
    fn new(per_second: Option<u32>) -> Result<Self> {
        let start = Instant::now();
        match per_second {
            None => Ok(Self { chunk: CHUNK, every: Duration::ZERO, start, nth: 0 }),
            Some(0) => Err(Error::invalid("redrive rate", "0 a second given, allowed are 1 or more")),
            Some(rate) => {
                let chunk = CHUNK.min(rate as usize);
                Ok(Self { chunk, every: Duration::from_secs(chunk as u64) / rate, start, nth: 0 })
            }
        }
    }

    /// Waits for the turn of the next chunk.
    async fn wait(&mut self) {
        if !self.every.is_zero() {
            sleep_until(self.start + self.every * self.nth).await;
            self.nth = self.nth.saturating_add(1);
        }
    }
}
