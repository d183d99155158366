//! Talks Erlang with a node over its standard input and output: milliseconds where `rabbitmqctl` takes a second.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::broker::error::{BrokerError, Result};

pub(super) const NAME: &str = "rabbitmq-server";

/// What the node runs to answer; see there for the protocol.
pub(super) const SCRIPT: &str = include_str!("console.erl");

const MARK: &str = "@console ";

/// `None` once the node has closed its output.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<String>>>>>;

/// The line to one node. It belongs to no runtime: a thread reads the answers.
#[derive(Debug)]
pub(super) struct Console {
    input: Mutex<ChildStdin>,
    waiting: Waiting,
    next: AtomicU64,
}

impl Console {
    /// Reads `output` in a thread of its own, which ends with the node, and copies it to `log`.
    pub(super) fn attach(input: ChildStdin, output: ChildStdout, log: File) -> Self {
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let shared = waiting.clone();
        std::thread::spawn(move || read_answers(output, log, &shared));
        Self { input: Mutex::new(input), waiting, next: AtomicU64::new(0) }
    }

    /// Evaluates Erlang expressions on the node and returns their value as Erlang prints it.
    pub(super) async fn eval(&self, expressions: &str, limit: Duration) -> Result<String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().as_mut().ok_or(BrokerError::Down { broker: NAME })?.insert(id, sender);
        let line = format!("{id} {}.\n", expressions.replace('\n', " "));
        self.input.lock().write_all(line.as_bytes()).map_err(BrokerError::io("writing to the node"))?;
        match timeout(limit, answer).await {
            Ok(Ok(answer)) => judge(answer),
            Ok(Err(_)) => Err(BrokerError::Down { broker: NAME }),
            Err(_) => Err(BrokerError::Late { what: format!("{NAME}: {expressions}"), waited: limit }),
        }
    }
}

fn judge(answer: String) -> Result<String> {
    match answer.strip_prefix("{ok,").and_then(|rest| rest.strip_suffix('}')) {
        Some(value) => Ok(value.to_owned()),
        None => Err(BrokerError::Refused { broker: NAME, answer }),
    }
}

fn read_answers(output: ChildStdout, mut log: File, waiting: &Waiting) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        match text.split_once(MARK).and_then(|(_, rest)| rest.trim_end().split_once(' ')) {
            Some((id, answer)) => pass_on(waiting, id, answer),
            None => drop(log.write_all(&line)),
        }
        line.clear();
    }
    *waiting.lock() = None;
}

fn pass_on(waiting: &Waiting, id: &str, answer: &str) {
    let Ok(id) = id.parse() else { return };
    if let Some(sender) = waiting.lock().as_mut().and_then(|waiting| waiting.remove(&id)) {
        let _ = sender.send(answer.to_owned());
    }
}
