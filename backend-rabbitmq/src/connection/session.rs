//! One living connection to the broker.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lapin::{Channel, Connection};
use polyqueue::{Certainty, Error, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::address::{Address, NAME};
use crate::connection::answered::{Answers, is_late};
use crate::connection::fault::{Refusal, fault, is_of_a_channel};

/// As many channels as a connection has, by the broker's usual maximum.
pub(super) const CHANNELS: usize = 2047;
/// How often it is looked whether an alarm or the connection is over, should nobody tell.
const LOOK: Duration = Duration::from_secs(1);

/// One living connection to the broker.
pub(crate) struct Session {
    pub(super) connection: Connection,
    pub(crate) answers: Answers,
    /// Counts the connections of this process: objects are declared, and channels valid, within one.
    pub(crate) generation: u64,
    pub(super) address: Address,
    pub(super) errors: watch::Receiver<u64>,
    pub(super) blocked: watch::Receiver<bool>,
    pub(super) born: Instant,
    /// It did not answer in time.
    pub(super) silent: AtomicBool,
}

impl Session {
    pub(crate) fn is_alive(&self) -> bool {
        self.connection.status().connected() && !self.silent.load(Relaxed)
    }

    /// A command failed: a connection that did not answer in time is not used any more.
    pub(crate) fn note(&self, error: &lapin::Error) {
        if is_late(error) {
            self.silent.store(true, Relaxed);
        }
    }

    /// Ends the connection, and with it all that goes on over it.
    pub(crate) async fn end(&self, within: Duration) {
        self.silent.store(true, Relaxed);
        let _ = timeout(within, self.connection.close(200, "closed".into())).await;
    }

    /// Whether the broker refuses publishes for now: an alarm.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// What is said of publishes that such a broker does not take.
    pub(crate) fn blocked(&self) -> Error {
        let said = format!(
            "{}: the broker blocks publishes: a memory or disk alarm; nothing was sent",
            self.address
        );
        Error::unavailable(NAME, Certainty::Definite, said)
    }

    /// Waits until the broker takes publishes, or the connection is gone.
    pub(crate) async fn unblocked(&self) {
        let mut told = self.blocked.clone();
        while self.is_blocked() && self.is_alive() {
            if let Ok(Err(_)) = timeout(LOOK, told.changed()).await {
                return;
            }
        }
    }

    /// Waits until the broker is heard to say that it takes no publishes.
    pub(crate) async fn until_blocked(&self) {
        let mut told = self.blocked.clone();
        while !self.is_blocked() {
            if let Ok(Err(_)) = timeout(LOOK, told.changed()).await {
                std::future::pending().await // nobody tells any more
            }
        }
    }

    /// What is asked over this connection, which the client library may leave without an answer when that ends.
    pub(crate) async fn while_alive<T>(
        &self,
        asked: impl Future<Output = lapin::Result<T>>,
    ) -> lapin::Result<T> {
        tokio::select! {
            biased;
            answer = asked => answer,
            () = self.ended() => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
        }
    }

    async fn ended(&self) {
        let mut told = self.errors.clone();
        while self.is_alive() {
            if let Ok(Err(_)) = timeout(LOOK, told.changed()).await {
                sleep(LOOK).await; // nobody tells any more
            }
        }
    }

    /// Changes whenever the connection or one of its channels fails.
    pub(crate) fn errors(&self) -> watch::Receiver<u64> {
        self.errors.clone()
    }

    /// A fresh channel; it ends when it is dropped.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        self.open_channel().await.map_err(|error| self.fault(&error))
    }

    /// The same, with the client library's error.
    pub(crate) async fn open_channel(&self) -> lapin::Result<Channel> {
        let mut last = None;
        for _ in 0..CHANNELS {
            let opened = self.answers.answered("opening a channel", self.connection.create_channel());
            match self.while_alive(opened).await {
                Ok(channel) => return Ok(channel),
                // The client library gives a channel's number out again with the error that the last one of this number ended
                // by. An opening has no such error of its own: the next number may be better.
                Err(stale) if is_of_a_channel(&stale) => last = Some(stale),
                Err(error) => {
                    self.note(&error);
                    return Err(error);
                }
            }
        }
        self.silent.store(true, Relaxed);
        Err(last.unwrap_or_else(|| lapin::ErrorKind::ChannelsLimitReached.into()))
    }

    /// How many channels the broker allows on this connection.
    pub(crate) fn channel_max(&self) -> u16 {
        self.connection.configuration().channel_max()
    }

    /// An error before anything took effect.
    pub(crate) fn fault(&self, error: &lapin::Error) -> Error {
        fault(&self.address, Certainty::Definite, error)
    }

    /// Why a command was not carried out.
    pub(crate) fn refusal(&self, certainty: Certainty, error: &lapin::Error) -> Refusal {
        Refusal::new(error, fault(&self.address, certainty, error))
    }
}
