//! The turn of who ends the life of a queue: one at a time, of all handles.
//!
//! AMQP deletes a queue by its name, whoever's life that is by then. So what is deleted is looked at and deleted in one turn, over the
//! channel that holds it: who has lost the turn has lost the channel, and deletes nothing any more.

use std::time::Duration;

use polyqueue::{Certainty, Error, QueueName, Result};
use tokio::time::{Instant, sleep};

use crate::connection::change::Change;
use crate::connection::control_channel::{ControlChannel, Deliveries};
use crate::connection::fault::{Answer, Refusal};
use crate::topology::state::Topology;

/// How often to ask for the turn.
const TAKEN: Duration = Duration::from_millis(20);
/// How long a deletion waits for another.
const LIMIT: Duration = Duration::from_secs(30);

/// Held as long as its channel lives: the queue is its connection's alone, and goes with its consumer.
pub(crate) struct Turn(Deliveries);

impl Turn {
    /// The turn over what is named so; `None` after a moment while another has it.
    pub(crate) async fn try_take(topology: &Topology, name: &str) -> Result<Option<Self>> {
        match lock(topology.handle.control().dedicated().await?, name).await {
            Ok(lock) => Ok(Some(Self(lock))),
            Err(Refusal::Taken(_)) => {
                sleep(TAKEN).await;
                Ok(None)
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// The turn over the lives of a queue.
    pub(crate) async fn over(topology: &Topology, queue: &QueueName) -> Result<Self> {
        let (until, name) = (Instant::now() + LIMIT, topology.names.turn(queue));
        while Instant::now() < until {
            if let Some(turn) = Self::try_take(topology, &name).await? {
                return Ok(turn);
            }
        }
        Err(Error::timeout("another's deletion", LIMIT, Certainty::Definite))
    }

    /// Makes changes while it is held.
    pub(crate) async fn change(&self, changes: Vec<Change>) -> Answer<()> {
        self.0.channel.change(changes).await
    }

    /// Gives it back.
    pub(crate) async fn end(self) {
        self.0.channel.end().await;
    }
}

async fn lock(channel: ControlChannel, name: &str) -> Answer<Deliveries> {
    channel.change(vec![Change::OwnQueue { name: name.to_owned() }]).await?;
    channel.consume_alone(name).await
}
