//! A channel beside the publishing one, for what the broker may answer by closing it: nobody else's publish is on it.

use std::sync::Arc;

use bytes::Bytes;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel};
use tokio::sync::Mutex;

use crate::connection::fault::{is_denied, is_of_a_channel};
use crate::connection::request::{Confirm, PublishRequest};
use crate::connection::session::Session;

/// A routing key of the default exchange that leads nowhere.
const NOBODY: &str = "polyqueue.nobody";

/// Publishes one thing at a time, each alone.
pub(crate) struct Trial {
    session: Arc<Session>,
    /// Absent while it is in use, and after an error.
    channel: Mutex<Option<Channel>>,
}

impl Trial {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, channel: Mutex::default() }
    }

    /// Publishes nothing to nobody, twice. A broker that has an alarm says so when it hears from a publisher, and answers what is empty
    /// all the same, perhaps before it is heard to say so; a second time it does not. Answers whether this user may write there.
    pub(crate) async fn ask(&self) -> lapin::Result<bool> {
        let mut asked = self.publish_nothing().await;
        if asked.is_ok() {
            tokio::select! {
                biased;
                () = self.session.until_blocked() => {}
                again = self.publish_nothing() => asked = again,
            }
        }
        match asked {
            Ok(_) => Ok(true),
            Err(error) if is_of_a_channel(&error) => Ok(!is_denied(&error)),
            Err(error) => Err(error),
        }
    }

    async fn publish_nothing(&self) -> lapin::Result<Option<Confirm>> {
        let (key, properties, body) = (NOBODY.to_owned(), BasicProperties::default(), Bytes::new());
        self.publish(PublishRequest { exchange: String::new(), key, properties, body }).await
    }

    /// Publishes, and waits for the answer: none where the broker refuses the message.
    pub(crate) async fn publish(&self, request: PublishRequest) -> lapin::Result<Option<Confirm>> {
        let mut place = self.channel.lock().await;
        let channel = match place.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.open().await?,
        };
        let PublishRequest { exchange, key, properties, body } = request;
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirmed = async {
            channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await?.await
        };
        let confirmed = self.session.answers.answered("a first publish", confirmed).await;
        let confirmation = confirmed.inspect_err(|error| self.session.note(error))?;
        *place = Some(channel);
        let accepted = confirmation.is_ack();
        let confirm =
            if confirmation.take_message().is_some() { Confirm::Unroutable } else { Confirm::Stored };
        Ok(accepted.then_some(confirm))
    }

    async fn open(&self) -> lapin::Result<Channel> {
        let session = &self.session;
        let channel = session.open_channel().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        session
            .answers
            .answered("opening a publisher", confirming)
            .await
            .inspect_err(|error| session.note(error))?;
        Ok(channel)
    }
}
