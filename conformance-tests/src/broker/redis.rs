//! A private `redis-server` with an append-only file.

mod faults;
mod operator;

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::Signal;
use tempfile::TempDir;

use self::operator::{NAME, Operator};
use super::certificates::Encryption;
use super::contract::Broker;
use super::error::{BrokerError, Result};
use super::port;
use super::slot::Slot;
use crate::Fault;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A private `redis-server`: append-only file synced every second, never evicting, on a loopback port of its own.
///
/// Dropping it ends the server and removes its data.
#[derive(Debug)]
pub struct RedisBroker {
    slot: Slot,
    port: u16,
    /// Where it encrypts, if it does.
    encrypted: Option<u16>,
    operator: Operator,
    more: Vec<String>,
    dir: TempDir,
}

impl RedisBroker {
    /// Starts a server and returns when it answers. 50 to 100 ms.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with more command line options, for example `["--maxmemory", "1mb"]`; a later one wins.
    pub async fn start_with(options: &[&str]) -> Result<Self> {
        Self::begin(options, None).await
    }

    /// The same, with a port of its own at which the server encrypts.
    pub async fn start_encrypted(encryption: &Encryption, options: &[&str]) -> Result<Self> {
        Self::begin(options, Some(encryption)).await
    }

    async fn begin(options: &[&str], encryption: Option<&Encryption>) -> Result<Self> {
        let encrypted = encryption.map(|_| port::free()).transpose()?;
        let said = encryption.zip(encrypted).map(|(encryption, port)| encrypted_options(encryption, port));
        let port = port::free()?;
        let dir = tempfile::Builder::new().prefix("polyqueue-redis-").tempdir();
        let dir = dir.map_err(BrokerError::io("making a directory"))?;
        let broker = Self {
            slot: Slot::new(NAME),
            port,
            operator: Operator { port, snapshot: dir.path().join("dump.rdb") },
            encrypted,
            more: options.iter().map(|&option| option.to_owned()).chain(said.into_iter().flatten()).collect(),
            dir,
        };
        broker.start_again().await?;
        Ok(broker)
    }

    /// The port at which it encrypts, where it was started so.
    pub fn encrypted_port(&self) -> Option<u16> {
        self.encrypted
    }

    /// The directory that it runs in: where a socket of its may be.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Sends one command in Redis' inline form, for example `CONFIG SET maxmemory 1mb`, over a connection of its own
    /// and returns the first line of the answer without its type mark; an error answer is [`BrokerError::Refused`].
    pub async fn command(&self, command: &str) -> Result<String> {
        self.operator.command(command).await
    }

    /// Closes every client connection from the broker's side; the broker stays up.
    pub async fn close_all_connections(&self) -> Result<()> {
        faults::close_connections(&self.operator).await
    }

    /// Whether the server on our port is ready for commands, and is our own process.
    async fn answers(&self) -> bool {
        match self.pid() {
            Some(pid) => self.operator.finds(pid).await,
            None => false,
        }
    }

    fn server(&self) -> Result<Command> {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.map_err(BrokerError::io("making a log file"))?;
        let mut command = Command::new(NAME);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"])
            .args(["--enable-debug-command", "yes", "--dir"])
            .arg(self.dir.path())
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(BrokerError::io("making a log file"))?)
            .stderr(log);
        Ok(command)
    }
}

fn encrypted_options(encryption: &Encryption, port: u16) -> Vec<String> {
    let Encryption { certificate, clients } = encryption;
    let of = |path: &Path| path.display().to_string();
    let ca = clients.as_deref().unwrap_or(&certificate.cert);
    [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", of(&certificate.cert)),
        ("--tls-key-file", of(&certificate.key)),
        // It wants one even where it asks no client.
        ("--tls-ca-cert-file", of(ca)),
        ("--tls-auth-clients", if clients.is_some() { "yes" } else { "no" }.to_owned()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect()
}

#[async_trait]
impl Broker for RedisBroker {
    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn pid(&self) -> Option<u32> {
        self.slot.pid()
    }

    async fn kill9(&self) -> Result<()> {
        self.slot.kill9().await;
        Ok(())
    }

    async fn stop_gracefully(&self) -> Result<()> {
        self.slot.stop_gracefully().await
    }

    async fn start_again(&self) -> Result<()> {
        let start = Instant::now();
        let answers = || self.answers().boxed();
        if self.slot.start_again(self.server()?, self.dir.path(), READY_WITHIN, answers).await? {
            tracing::info!(port = self.port, after = ?start.elapsed(), "redis-server is ready");
        }
        Ok(())
    }

    fn own_fault(&self, fault: Fault) -> Option<BoxFuture<'_, Result<()>>> {
        faults::own(&self.operator, fault)
    }

    async fn undo(&self) -> Result<()> {
        faults::undo(&self.operator).await
    }

    fn freeze(&self) -> Result<()> {
        self.slot.signal(Signal::STOP)
    }

    fn thaw(&self) -> Result<()> {
        self.slot.signal(Signal::CONT)
    }
}
