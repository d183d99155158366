//! Where one process runs, is killed, stopped, paused and started again.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::time::sleep;

use super::error::{BrokerError, Result, last_words};
use super::process::{Process, TICK, within};

const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The place of one broker's process, which comes and goes.
#[derive(Debug)]
pub(super) struct Slot {
    name: &'static str,
    process: Mutex<Option<Process>>,
    /// One order at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Slot {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, process: Mutex::new(None), turn: tokio::sync::Mutex::new(()) }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.lock().as_ref().map(Process::pid)
    }

    /// Whether the process has ended; one that has is forgotten.
    pub(super) fn is_down(&self) -> bool {
        let mut process = self.process.lock();
        if process.as_mut().is_some_and(|it| it.ended().is_some()) {
            *process = None;
        }
        process.is_none()
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.lock().as_ref().ok_or(BrokerError::Down { broker: self.name })?.signal(signal)
    }

    pub(super) async fn kill9(&self) {
        let _turn = self.turn.lock().await;
        if let Some(process) = self.process.lock().take() {
            process.kill();
        }
    }

    pub(super) async fn stop_gracefully(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if self.is_down() {
            return Ok(());
        }
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)?;
        let ended = async {
            while !self.is_down() {
                sleep(TICK).await;
            }
            Ok(())
        };
        within(STOP_WITHIN, &format!("{}: end", self.name), ended).await
    }

    /// Starts it where it is down, and waits until it is ready; whether it was down.
    pub(super) async fn start_again<'a>(
        &self,
        command: Command,
        dir: &Path,
        limit: Duration,
        is_ready: impl Fn() -> BoxFuture<'a, bool> + Send + Sync,
    ) -> Result<bool> {
        let _turn = self.turn.lock().await;
        if !self.is_down() {
            return Ok(false);
        }
        *self.process.lock() = Some(Process::spawn(self.name, command, dir)?);
        let ready = async {
            while !is_ready().await {
                if self.is_down() {
                    return Err(BrokerError::Died { broker: self.name, log: last_words(&dir.join("log")) });
                }
                sleep(TICK).await;
            }
            Ok(())
        };
        within(limit, &format!("{}: ready", self.name), ready).await?;
        Ok(true)
    }
}
