//! Clients that are processes: how one is started and killed, and what it does.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::consumer::consume;
use super::entry::Entry;
use super::journal::{Journal, Sink};
use super::producer::produce;
use super::setting::{Place, Role};
use super::site::Site;
use crate::Fail;

/// Says to a process what it is to do: JSON of a [`Part`].
const PART_VAR: &str = "POLYQUEUE_DRILL_PART";
/// Longer than any call of a client: its deadline and a second.
const ENDS_WITHIN: Duration = Duration::from_secs(12);

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    place: Place,
    /// When the drill began, in microseconds since 1970.
    began: u64,
}

/// A client that is a process. Killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// It goes on for as long as this is open.
    open: Option<ChildStdin>,
    reader: JoinHandle<()>,
}

impl Process {
    /// Starts it; what it writes down goes to `sink`.
    pub(super) fn start(
        command: std::process::Command,
        place: Place,
        began: Instant,
        sink: Sink,
    ) -> Result<Self, Fail> {
        let failed = |error: String| Fail::new(format!("starting a client: {error}"));
        let part = Part { place, began: since_1970().saturating_sub(began.elapsed()).as_micros() as u64 };
        let part = serde_json::to_string(&part).map_err(|error| failed(error.to_string()))?;
        let mut child = Command::from(command)
            .env(PART_VAR, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let open = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| failed("no standard output".into()))?;
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // A process that is killed may leave half a line behind: what it says had not begun.
                if let Ok(entry) = serde_json::from_str::<Entry>(&line) {
                    sink(entry);
                }
            }
        });
        Ok(Self { child, open, reader })
    }

    /// Kills it (SIGKILL), and reads what it has written.
    pub(super) async fn kill(mut self) -> Result<(), Fail> {
        self.child.kill().await.map_err(|error| Fail::new(format!("killing a client: {error}")))?;
        self.read_to_the_end().await
    }

    /// Tells it to end; it still does what it has begun.
    pub(super) async fn end(mut self) -> Result<(), Fail> {
        drop(self.open.take());
        match timeout(ENDS_WITHIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => self.read_to_the_end().await,
            Ok(Ok(status)) => Err(Fail::new(format!("a client ended with {status}"))),
            Ok(Err(error)) => Err(Fail::new(format!("waiting for a client: {error}"))),
            Err(_) => Err(Fail::new(format!("a client did not end within {ENDS_WITHIN:?}"))),
        }
    }

    async fn read_to_the_end(&mut self) -> Result<(), Fail> {
        let read = timeout(ENDS_WITHIN, &mut self.reader).await;
        read.map(drop).map_err(|_| Fail::new("what a client wrote does not end"))
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What a process does that [`Site::process`] started: publishes or consumes, and prints what it does, until its standard input
/// ends.
///
/// # Errors
/// When nobody started it so.
pub async fn work(site: Arc<dyn Site>) -> Result<(), Fail> {
    let part = std::env::var(PART_VAR).map_err(|_| "only a drill starts its clients")?;
    let Part { place, began } = serde_json::from_str(&part).map_err(|error| Fail::new(error.to_string()))?;
    let age = since_1970().saturating_sub(Duration::from_micros(began));
    let began = Instant::now().checked_sub(age).ok_or("the drill is older than this machine")?;
    let journal = Journal::new(began, Arc::new(print));
    let ended = CancellationToken::new();
    let told = ended.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.cancel();
    });
    match place.role {
        Role::Producer => produce(place, &*site, journal, ended).await,
        Role::Consumer => consume(place, &*site, journal, ended).await,
    }
    Ok(())
}

/// Prints an entry at once. Where nobody reads, the drill is over.
fn print(entry: Entry) {
    let line = serde_json::to_string(&entry).unwrap_or_default() + "\n";
    let mut out = std::io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}
