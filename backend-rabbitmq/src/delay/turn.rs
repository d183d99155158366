//! Whose turn it is to move what is due: his who consumes one queue alone.
//!
//! The broker refuses the others by closing their channel, and gives the queue back when its consumer's connection ends. So nobody
//! asks while there is a consumer; that is seen by a question that is never refused.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use polyqueue::backend::Jitter;
use tokio::time::sleep;

use crate::connection::fault::is_denied;
use crate::connection::session::Session;
use crate::wire::delay::{LOCK, NEXT};

/// How often who stands by looks whether somebody moves, at least; and how much less often, by chance.
const LOOK: Duration = Duration::from_millis(700);
const MORE: Duration = Duration::from_millis(600);

/// Held by whoever moves, as long as its channel lives.
pub(crate) struct Turn {
    consumer: Consumer,
    channel: Channel,
}

impl Turn {
    /// Stands by until it is this client's turn. `waits` is told as soon as somebody else has it.
    pub(crate) async fn take(session: &Session, waits: impl Fn()) -> lapin::Result<Self> {
        let (questions, jitter) = (session.open_channel().await?, Jitter::default());
        let mut hints = None;
        loop {
            if consumers(session, &questions).await? == 0
                && let Some(turn) = Self::try_take(session).await?
            {
                return Ok(turn);
            }
            waits();
            let hints = match &mut hints {
                Some(hints) => hints,
                None => hints.insert(listen(session).await?),
            };
            tokio::select! {
                hint = hints.next() => drop(hint.ok_or_else(gone)??),
                () = sleep(jitter.between(LOOK, MORE)) => {}
            }
        }
    }

    async fn try_take(session: &Session) -> lapin::Result<Option<Self>> {
        let channel = session.open_channel().await?;
        let options = BasicConsumeOptions { exclusive: true, no_ack: true, ..Default::default() };
        let consumer = channel.basic_consume(LOCK.into(), "".into(), options, FieldTable::default());
        match session.answers.answered("take the turn", consumer).await {
            Ok(consumer) => Ok(Some(Self { consumer, channel })),
            Err(error) if is_denied(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the turn back.
    pub(crate) async fn release(self) {
        let _ = self.channel.close(200, "done".into()).await;
    }

    /// Ends when the turn is lost. What comes here is a question whether the queue is there.
    pub(crate) async fn lost(&mut self) -> lapin::Error {
        loop {
            match self.consumer.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => return gone(),
            }
        }
    }
}

/// How many consumers the lock has.
async fn consumers(session: &Session, channel: &Channel) -> lapin::Result<u32> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let asked = channel.queue_declare(LOCK.into(), options, FieldTable::default());
    Ok(session.answers.answered("who moves", asked).await?.consumer_count())
}

/// A consumer of what the one leaves that moved before.
async fn listen(session: &Session) -> lapin::Result<Consumer> {
    hints(session, NEXT).await
}

/// A consumer of hints, which are gone when they are handed over.
pub(crate) async fn hints(session: &Session, queue: &str) -> lapin::Result<Consumer> {
    let channel = session.open_channel().await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    session.answers.answered("listen for hints", consumer).await
}

/// What a hint says.
pub(crate) async fn next_hint(hints: &mut Consumer) -> lapin::Result<Delivery> {
    hints.next().await.ok_or_else(gone)?
}

/// The broker has ended a consumer.
fn gone() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::NotFound).into()
}
