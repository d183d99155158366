//! A private RabbitMQ node: no plugins, no port mapper daemon, nothing outside loopback.

mod console;
mod faults;
mod layout;

use std::fs::File;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use self::console::{Console, NAME};
use super::certificates::Encryption;
use super::contract::Broker;
use super::error::{BrokerError, Result, last_words};
use super::port;
use super::process::{Process, TICK, within};
use crate::Fault;

const BOOT_WITHIN: Duration = Duration::from_secs(120);
/// How often a boot that takes long says so.
const WORD_EVERY: Duration = Duration::from_secs(5);
const STOP_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A private RabbitMQ node, user `guest`, virtual host `/`.
///
/// [`Broker::stop_gracefully`] stops the broker inside its Erlang machine, as `rabbitmqctl stop_app` does: connections
/// are closed, the port refuses, everything durable is on disk; starting it again then takes a fraction of a boot.
/// Dropping the value ends the machine and removes its data.
#[derive(Debug)]
pub struct RabbitBroker {
    running: Mutex<Option<Running>>,
    port: u16,
    /// Where it encrypts, if it does.
    encrypted: Option<u16>,
    management: Option<u16>,
    distribution: u16,
    dir: TempDir,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    console: Arc<Console>,
}

impl RabbitBroker {
    /// Starts a node and returns when its queues are recovered and it accepts connections.
    pub async fn start() -> Result<Self> {
        Self::begin(None, None).await
    }

    /// The same, with a port of its own at which the node encrypts.
    pub async fn start_encrypted(encryption: &Encryption) -> Result<Self> {
        Self::begin(Some(encryption), None).await
    }

    /// The same with RabbitMQ's management plugin, which takes longer to boot.
    pub async fn start_managed() -> Result<Self> {
        Self::begin(None, Some(port::free()?)).await
    }

    /// Where its HTTP API is, where it was started with one.
    pub fn management_url(&self) -> Option<String> {
        self.management.map(|port| format!("http://guest:guest@127.0.0.1:{port}"))
    }

    async fn begin(encryption: Option<&Encryption>, management: Option<u16>) -> Result<Self> {
        let encrypted = encryption.map(|_| port::free()).transpose()?;
        let broker = Self {
            running: Mutex::new(None),
            port: port::free()?,
            encrypted,
            management,
            distribution: port::free()?,
            dir: tempfile::Builder::new()
                .prefix("polyqueue-rabbitmq-")
                .tempdir()
                .map_err(BrokerError::io("making a directory"))?,
            turn: tokio::sync::Mutex::new(()),
        };
        layout::prepare(broker.dir.path(), broker.port, encryption.zip(encrypted), broker.management)?;
        broker.start_again().await?;
        Ok(broker)
    }

    /// The port at which it encrypts, where it was started so.
    pub fn encrypted_port(&self) -> Option<u16> {
        self.encrypted
    }

    /// Evaluates Erlang on the node, as `rabbitmqctl eval` does but within milliseconds, and returns the printed value.
    ///
    /// `vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1})` raises the memory alarm, for example.
    pub async fn eval(&self, expressions: &str) -> Result<String> {
        self.console()?.eval(expressions, ANSWER_WITHIN).await
    }

    /// Closes every client connection from the broker's side; the broker stays up.
    pub async fn close_all_connections(&self) -> Result<()> {
        self.eval(faults::CLOSE_CONNECTIONS).await.map(drop)
    }

    fn console(&self) -> Result<Arc<Console>> {
        let running = self.running.lock();
        running.as_ref().map(|it| it.console.clone()).ok_or(BrokerError::Down { broker: NAME })
    }

    /// Whether there is no process; one that has ended is forgotten.
    fn is_dead(&self) -> bool {
        let mut running = self.running.lock();
        if running.as_mut().is_some_and(|it| it.process.ended().is_some()) {
            *running = None;
        }
        running.is_none()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.running.lock().as_ref().ok_or(BrokerError::Down { broker: NAME })?.process.signal(signal)
    }

    fn spawn(&self) -> Result<Running> {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log/output"));
        let log = log.map_err(BrokerError::io("making a log file"))?;
        let mut command = layout::command(self.dir.path(), &self.node(), self.distribution);
        command.stderr(log.try_clone().map_err(BrokerError::io("making a log file"))?);
        let mut process = Process::spawn(NAME, command, self.dir.path())?;
        let (input, output) = process.take_pipes().ok_or(BrokerError::Down { broker: NAME })?;
        Ok(Running { process, console: Arc::new(Console::attach(input, output, log)) })
    }

    /// The host part is never looked up: the machine is told where its peers listen.
    fn node(&self) -> String {
        format!("polyqueue-{}@localhost", self.port)
    }

    async fn boot(&self) -> Result<()> {
        *self.running.lock() = Some(self.spawn()?);
        let start = Instant::now();
        let mut word = 1;
        while !self.is_ready().await {
            if self.is_dead() {
                let log = last_words(&self.dir.path().join("log/output"));
                return Err(BrokerError::Died { broker: NAME, log });
            }
            if start.elapsed() > word * WORD_EVERY {
                tracing::info!(after = ?start.elapsed(), "rabbitmq-server is still booting");
                word += 1;
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// Starts the broker in a machine that is up.
    async fn start_inside(&self) -> Result<()> {
        self.console()?.eval("ok = rabbit:start()", BOOT_WITHIN).await?;
        while !self.is_ready().await {
            sleep(TICK).await;
        }
        Ok(())
    }

    /// Whether the port speaks AMQP and the node has finished its recovery, and its boot to the end: a start that comes, after a
    /// stop, before that end takes itself for the same boot and does nothing.
    async fn is_ready(&self) -> bool {
        let done = "rabbit:is_running() andalso whereis(rabbit_boot) =:= undefined";
        matches!(timeout(ANSWER_WITHIN, greet(self.port)).await, Ok(Ok(true)))
            && self.eval(done).await.is_ok_and(|answer| answer == "true")
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn pid(&self) -> Option<u32> {
        self.running.lock().as_ref().map(|it| it.process.pid())
    }

    async fn kill9(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if let Some(running) = self.running.lock().take() {
            running.process.kill();
        }
        Ok(())
    }

    async fn stop_gracefully(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if self.is_dead() {
            return Ok(());
        }
        self.signal(Signal::CONT)?;
        self.console()?.eval("ok = rabbit:stop()", STOP_WITHIN).await?;
        Ok(())
    }

    async fn start_again(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let start = Instant::now();
        if self.is_dead() {
            within(BOOT_WITHIN, "rabbitmq-server: boot", self.boot()).await?;
        } else if self.eval("rabbit:is_running()").await? == "true" {
            return Ok(());
        } else {
            within(BOOT_WITHIN, "rabbitmq-server: start", self.start_inside()).await?;
        }
        tracing::info!(port = self.port, after = ?start.elapsed(), "rabbitmq-server is ready");
        Ok(())
    }

    fn own_fault(&self, fault: Fault) -> Option<BoxFuture<'_, Result<()>>> {
        faults::own(self.console(), fault)
    }

    async fn undo(&self) -> Result<()> {
        faults::undo(self.console()).await
    }

    fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }
}

/// Whether the port answers the AMQP header with a method frame, which is `connection.start`.
async fn greet(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    Ok(stream.read_u8().await? == 1)
}
