//! The standing channels for commands: one call at a time on each, and another channel when one has died.

use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Certainty, Error, Result};
use tokio::time::{Instant, timeout};

use crate::connection::change::Change;
use crate::connection::control_channel::ControlChannel;
use crate::connection::fault::Answer;
use crate::connection::link::Link;
use crate::connection::standing::{Standing, Taken};

/// How long the broker may take to answer a command, at least; whoever waits for less gives up himself.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// How many questions are asked at a time.
const QUESTIONS: usize = 4;

/// Commands to the broker, over a connection that comes back.
pub(crate) struct Control {
    link: Arc<Link>,
    limit: Duration,
    /// They do not wait for changes, nor for one that the broker does not answer.
    questions: Standing,
    changes: Standing,
}

impl Control {
    pub(crate) fn new(link: Arc<Link>, deadline: Duration) -> Self {
        let limit = deadline.max(COMMAND_TIMEOUT);
        Self { link, limit, questions: Standing::new(QUESTIONS), changes: Standing::new(1) }
    }

    /// Whether the connection is there and serves channels.
    pub(crate) async fn probe(&self, by: Instant) -> Result<()> {
        self.link.session(by).await?.channel().await.map(drop)
    }

    /// Ends the connection for good.
    pub(crate) async fn close(&self, within: Duration) {
        self.link.close(within).await;
    }

    /// A channel of the caller's own; it ends when it is dropped.
    pub(crate) async fn dedicated(&self) -> Result<ControlChannel> {
        let until = Instant::now() + self.limit;
        ControlChannel::open(self.link.session(until).await?, self.limit).await
    }

    /// Whether a channel stands on the connection that is used now.
    pub(crate) fn is_current(&self, channel: &ControlChannel) -> bool {
        self.link.live().is_some_and(|live| channel.is_on(&live))
    }

    /// The connection that is used now, by a number that no other has.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.link.live().map(|live| live.generation)
    }

    /// How many messages are ready in a queue.
    pub(crate) async fn messages(&self, queue: &str) -> Answer<u64> {
        async { self.standing(&self.questions).await?.messages(queue).await }.boxed().await
    }

    /// How many consumers a queue has.
    pub(crate) async fn consumers(&self, queue: &str) -> Answer<u32> {
        async { self.standing(&self.questions).await?.consumers(queue).await }.boxed().await
    }

    /// Whether there is such an exchange: refused as missing when there is none.
    pub(crate) async fn find_exchange(&self, name: &str) -> Answer<()> {
        async { self.standing(&self.questions).await?.find_exchange(name).await }.boxed().await
    }

    /// Makes changes, in this order.
    pub(crate) async fn change(&self, changes: Vec<Change>) -> Answer<()> {
        async { self.standing(&self.changes).await?.change(changes).await }.boxed().await
    }

    /// Removes what is ready, and says how many that were.
    pub(crate) async fn purge(&self, queue: &str) -> Answer<u64> {
        async { self.standing(&self.changes).await?.purge(queue).await }.boxed().await
    }

    async fn standing<'a>(&self, standing: &'a Standing) -> Result<Taken<'a>> {
        let late = |_| Err(Error::timeout("a free channel", self.limit, Certainty::Definite));
        let turn = timeout(self.limit, standing.turn()).await.unwrap_or_else(late)?;
        // One that stands on a connection that is worn out keeps that alive.
        let live = self.link.live();
        let is_fit =
            |channel: &ControlChannel| channel.is_fit() && live.as_ref().is_some_and(|on| channel.is_on(on));
        let channel = match turn.free(is_fit) {
            Some(channel) => channel,
            None => Arc::new(self.dedicated().boxed().await?),
        };
        Ok(turn.with(channel))
    }
}
