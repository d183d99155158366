//! A private `redis-server` with an append-only file.

mod faults;

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::contract::Broker;
use super::error::{BrokerError, Result, last_words};
use super::port;
use super::process::{Process, TICK, within};
use crate::Fault;

const NAME: &str = "redis-server";
const READY_WITHIN: Duration = Duration::from_secs(30);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A private `redis-server`: append-only file synced every second, never evicting, on a loopback port of its own.
///
/// Dropping it ends the server and removes its data.
#[derive(Debug)]
pub struct RedisBroker {
    process: Mutex<Option<Process>>,
    port: u16,
    more: Vec<String>,
    dir: TempDir,
    turn: tokio::sync::Mutex<()>,
}

impl RedisBroker {
    /// Starts a server and returns when it answers. 50 to 100 ms.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with more command line options, for example `["--maxmemory", "1mb"]`; a later one wins.
    pub async fn start_with(options: &[&str]) -> Result<Self> {
        let broker = Self {
            process: Mutex::new(None),
            port: port::free()?,
            more: options.iter().map(|&option| option.to_owned()).collect(),
            dir: tempfile::Builder::new()
                .prefix("polyqueue-redis-")
                .tempdir()
                .map_err(BrokerError::io("making a directory"))?,
            turn: tokio::sync::Mutex::new(()),
        };
        broker.start_again().await?;
        Ok(broker)
    }

    /// Sends one command in Redis' inline form, for example `CONFIG SET maxmemory 1mb`, over a connection of its own
    /// and returns the first line of the answer without its type mark; an error answer is [`BrokerError::Refused`].
    pub async fn command(&self, command: &str) -> Result<String> {
        let answer = self.ask(command).await?;
        let line = answer.lines().next().unwrap_or_default();
        match line.split_at_checked(1) {
            Some(("+" | ":" | "$" | "*", rest)) => Ok(rest.to_owned()),
            _ => Err(BrokerError::Refused { broker: NAME, answer: line.to_owned() }),
        }
    }

    /// The whole answer to one command.
    async fn ask(&self, command: &str) -> Result<String> {
        let asked = timeout(ANSWER_WITHIN, ask(self.port, &format!("{command}\r\nQUIT"))).await;
        let asked = asked
            .map_err(|_| BrokerError::Late { what: format!("redis: {command}"), waited: ANSWER_WITHIN })?;
        asked.map_err(BrokerError::io(format!("redis: {command}")))
    }

    /// Where a snapshot would be written.
    fn snapshot(&self) -> std::path::PathBuf {
        self.dir.path().join("dump.rdb")
    }

    /// Closes every client connection from the broker's side; the broker stays up.
    pub async fn close_all_connections(&self) -> Result<()> {
        for kind in ["normal", "pubsub"] {
            self.command(&format!("CLIENT KILL TYPE {kind}")).await?;
        }
        Ok(())
    }

    /// Whether the server on our port is ready for commands, and is our own process.
    async fn answers(&self) -> bool {
        let Some(pid) = self.pid() else { return false };
        match timeout(ANSWER_WITHIN, ask(self.port, "PING\r\nINFO server\r\nQUIT")).await {
            Ok(Ok(answer)) => {
                answer.starts_with("+PONG") && answer.contains(&format!("process_id:{pid}\r\n"))
            }
            _ => false,
        }
    }

    fn spawn(&self) -> Result<Process> {
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
        Process::spawn(NAME, command, self.dir.path())
    }

    async fn ready(&self) -> Result<()> {
        while !self.answers().await {
            if self.is_down() {
                let log = last_words(&self.dir.path().join("log"));
                return Err(BrokerError::Died { broker: NAME, log });
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// Whether the process has ended; one that has is forgotten.
    fn is_down(&self) -> bool {
        let mut process = self.process.lock();
        if process.as_mut().is_some_and(|it| it.ended().is_some()) {
            *process = None;
        }
        process.is_none()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.process.lock().as_ref().ok_or(BrokerError::Down { broker: NAME })?.signal(signal)
    }
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
        self.process.lock().as_ref().map(Process::pid)
    }

    async fn kill9(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if let Some(process) = self.process.lock().take() {
            process.kill();
        }
        Ok(())
    }

    async fn stop_gracefully(&self) -> Result<()> {
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
        within(READY_WITHIN, "redis-server: end", ended).await
    }

    async fn start_again(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if !self.is_down() {
            return Ok(());
        }
        let start = Instant::now();
        *self.process.lock() = Some(self.spawn()?);
        within(READY_WITHIN, "redis-server: PONG", self.ready()).await?;
        eprintln!("redis-server: ready on 127.0.0.1:{} after {} ms", self.port, start.elapsed().as_millis());
        Ok(())
    }

    fn own_fault(&self, fault: Fault) -> Option<BoxFuture<'_, Result<()>>> {
        faults::own(self, fault)
    }

    async fn undo(&self) -> Result<()> {
        faults::undo(self).await
    }

    fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }
}

/// Sends inline commands, of which the last must be QUIT, and returns all that is answered.
async fn ask(port: u16, commands: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(format!("{commands}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
