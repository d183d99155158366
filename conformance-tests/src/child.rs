//! Another process of this test binary, which plays a role on the same broker.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use crate::Fail;

/// Says that this process is a child, and how: JSON of a [`Part`].
pub(crate) const CHILD_VAR: &str = "POLYQUEUE_CONFORMANCE_CHILD";

const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// What a child process is to do.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Part {
    pub(crate) role: String,
    pub(crate) args: Vec<(String, String)>,
    pub(crate) namespace: String,
    pub(crate) seed: u64,
    pub(crate) lateness_ms: u64,
}

/// A running child. Killed when dropped.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    pub(crate) fn start(spec: ChildSpec, part: &Part) -> Result<Self, Fail> {
        let failed = |what: &str| Fail::new(format!("starting a child process: {what}"));
        let part = serde_json::to_string(part).map_err(|error| failed(&error.to_string()))?;
        let program = std::env::current_exe().map_err(|error| failed(&error.to_string()))?;
        let mut process = Command::new(program)
            .envs(spec.vars)
            .env(CHILD_VAR, part)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error.to_string()))?;
        let stdout = process.stdout.take().ok_or_else(|| failed("no standard output"))?;
        Ok(Self { process, lines: BufReader::new(stdout).lines() })
    }

    /// The next line that it prints on standard output; `None` when it has ended.
    ///
    /// # Errors
    /// When nothing comes within 30 seconds.
    pub async fn line(&mut self) -> Result<Option<String>, Fail> {
        match timeout(ANSWERS_WITHIN, self.lines.next_line()).await {
            Ok(line) => line.map_err(|error| Fail::new(format!("reading from a child: {error}"))),
            Err(_) => Err(Fail::new(format!("the child printed nothing for {ANSWERS_WITHIN:?}"))),
        }
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Kills it as a crash would (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// When the operating system does not let us.
    pub async fn kill9(&mut self) -> Result<(), Fail> {
        self.process.kill().await.map_err(|error| Fail::new(format!("killing a child: {error}")))
    }

    /// Stops it from running (SIGSTOP), until [`Child::go_on`].
    ///
    /// # Errors
    /// When it has ended.
    pub fn stop(&self) -> Result<(), Fail> {
        self.signal(Signal::STOP)
    }

    /// Lets it run again (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub fn go_on(&self) -> Result<(), Fail> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Fail> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| Fail::new("the child has ended"))?;
        kill_process(pid, signal).map_err(|error| Fail::new(format!("a signal to a child: {error}")))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within 30 seconds.
    pub async fn wait(&mut self) -> Result<ExitStatus, Fail> {
        match timeout(ANSWERS_WITHIN, self.process.wait()).await {
            Ok(status) => status.map_err(|error| Fail::new(format!("waiting for a child: {error}"))),
            Err(_) => Err(Fail::new(format!("the child did not end for {ANSWERS_WITHIN:?}"))),
        }
    }
}

/// How another process reaches the same broker.
#[derive(Clone, Debug, Default)]
pub struct ChildSpec {
    /// Variables for its environment, from which its harness finds the broker: for example `REDIS_URL`.
    pub vars: Vec<(String, String)>,
}
