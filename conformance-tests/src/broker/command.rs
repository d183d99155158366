//! Any broker that a command starts: a third party's faults of processes without a line of his own.

use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::contract::Broker;
use super::error::{BrokerError, Result};
use super::port;
use super::slot::Slot;
use crate::{Fault, FaultKind, Outcome};

const READY_WITHIN: Duration = Duration::from_secs(60);

type Ready = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, bool> + Send + Sync>;
type Own = Arc<dyn Fn(SocketAddr, Fault) -> BoxFuture<'static, Outcome> + Send + Sync>;
type Undo = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// The faults of any broker that a command starts: it is killed, stopped, paused and started again, and what it can suffer
/// itself is said by a closure for each kind. What is said of none is not offered.
///
/// ```no_run
/// use polyqueue_conformance::broker::ProcessFaults;
/// use polyqueue_conformance::{FaultKind, Stage};
///
/// let stage = Stage::new("mine", "MY_BROKER_URL", || {
///     let broker = ProcessFaults::new("my-broker --port {port} --dir {dir}")
///         .url("mine://127.0.0.1:{port}/")
///         .own(FaultKind::Wipe, |_address, _fault| async move { Ok(()) });
///     Box::pin(broker.start())
/// });
/// ```
#[derive(Clone)]
pub struct ProcessFaults {
    command: String,
    url: String,
    ready: Ready,
    own: Vec<(FaultKind, Own)>,
    undo: Option<Undo>,
}

impl ProcessFaults {
    /// A command, split at spaces: `{port}` stands for a free loopback port, which stays the same over all restarts, `{dir}`
    /// for a directory of its own, which stays as well.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            url: "tcp://127.0.0.1:{port}/".into(),
            ready: Arc::new(|address| TcpStream::connect(address).map(|it| it.is_ok()).boxed()),
            own: Vec::new(),
            undo: None,
        }
    }

    /// What clients find it by, with `{port}` in it.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// When it is ready for clients; unless said, when its port takes connections.
    #[must_use]
    pub fn ready_when<F>(mut self, ready: impl Fn(SocketAddr) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.ready = Arc::new(move |address| ready(address).boxed());
        self
    }

    /// What makes faults of this kind happen, which this broker has itself.
    #[must_use]
    pub fn own<F>(
        mut self,
        kind: FaultKind,
        apply: impl Fn(SocketAddr, Fault) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.own.push((kind, Arc::new(move |address, fault| apply(address, fault).boxed())));
        self
    }

    /// What takes back whatever was made to happen by [`ProcessFaults::own`]; called when the broker is up.
    #[must_use]
    pub fn undo<F>(mut self, undo: impl Fn(SocketAddr) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.undo = Some(Arc::new(move |address| undo(address).boxed()));
        self
    }

    /// Starts it and returns when it is ready. It ends with the value that is returned, its directory too.
    pub async fn start(self) -> Result<Arc<dyn Broker>> {
        let program = self.command.split(' ').next().unwrap_or_default().to_owned();
        let dir = tempfile::Builder::new().prefix("polyqueue-broker-").tempdir();
        let dir = dir.map_err(BrokerError::io("making a directory"))?;
        // Errors name it for as long as the process lives, and there are not many of them.
        let slot = Slot::new(Box::leak(program.into_boxed_str()));
        let broker = CommandBroker { faults: self, port: port::free()?, dir, slot };
        broker.start_again().await?;
        Ok(Arc::new(broker))
    }
}

impl fmt::Debug for ProcessFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessFaults").field("command", &self.command).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct CommandBroker {
    faults: ProcessFaults,
    port: u16,
    dir: TempDir,
    slot: Slot,
}

impl CommandBroker {
    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn command(&self) -> Result<Command> {
        let filled = |word: &str| filled(word, self.port, self.dir.path());
        let mut words = self.faults.command.split(' ').filter(|word| !word.is_empty()).map(filled);
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.map_err(BrokerError::io("making a log file"))?;
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(BrokerError::io("making a log file"))?)
            .stderr(log);
        Ok(command)
    }
}

fn filled(word: &str, port: u16, dir: &Path) -> String {
    word.replace("{port}", &port.to_string()).replace("{dir}", &dir.display().to_string())
}

#[async_trait]
impl Broker for CommandBroker {
    fn url(&self) -> String {
        filled(&self.faults.url, self.port, self.dir.path())
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
        let is_ready = || (self.faults.ready)(self.address());
        let started = self.slot.start_again(self.command()?, self.dir.path(), READY_WITHIN, is_ready).await;
        started.map(drop)
    }

    fn freeze(&self) -> Result<()> {
        self.slot.signal(Signal::STOP)
    }

    fn thaw(&self) -> Result<()> {
        self.slot.signal(Signal::CONT)
    }

    fn own_fault(&self, fault: Fault) -> Option<BoxFuture<'_, Result<()>>> {
        let (_, apply) = self.faults.own.iter().find(|(kind, _)| *kind == fault.kind())?;
        Some(apply(self.address(), fault).map(refused).boxed())
    }

    async fn undo(&self) -> Result<()> {
        match &self.faults.undo {
            Some(undo) => refused(undo(self.address()).await),
            None => Ok(()),
        }
    }
}

fn refused(outcome: Outcome) -> Result<()> {
    outcome.map_err(|fail| BrokerError::Refused { broker: "the broker", answer: fail.to_string() })
}
