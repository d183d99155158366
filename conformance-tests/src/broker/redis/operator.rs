//! What an operator of a server can do: give it commands, and touch its directory.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::broker::error::{BrokerError, Result};

pub(super) const NAME: &str = "redis-server";
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The operator of one server.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) port: u16,
    /// Where a snapshot would be written.
    pub(super) snapshot: PathBuf,
}

impl Operator {
    /// The first line of the answer without its type mark.
    pub(super) async fn command(&self, command: &str) -> Result<String> {
        let answer = self.ask(command).await?;
        let line = answer.lines().next().unwrap_or_default();
        match line.split_at_checked(1) {
            Some(("+" | ":" | "$" | "*", rest)) => Ok(rest.to_owned()),
            _ => Err(BrokerError::Refused { broker: NAME, answer: line.to_owned() }),
        }
    }

    /// The whole answer to one command.
    pub(super) async fn ask(&self, command: &str) -> Result<String> {
        let asked = timeout(ANSWER_WITHIN, ask(self.port, &format!("{command}\r\nQUIT"))).await;
        let asked = asked
            .map_err(|_| BrokerError::Late { what: format!("redis: {command}"), waited: ANSWER_WITHIN })?;
        asked.map_err(BrokerError::io(format!("redis: {command}")))
    }

    /// Whether this process is ready for commands on the port.
    pub(super) async fn finds(&self, pid: u32) -> bool {
        match timeout(ANSWER_WITHIN, ask(self.port, "PING\r\nINFO server\r\nQUIT")).await {
            Ok(Ok(answer)) => {
                answer.starts_with("+PONG") && answer.contains(&format!("process_id:{pid}\r\n"))
            }
            _ => false,
        }
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
