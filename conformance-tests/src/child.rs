//! Another process of this test binary, which plays a role on the same broker.

use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use polyqueue::Info;

use crate::env::Setting;
use crate::lateness::Controls;
use crate::run::runtime;
use crate::{ChildSpec, Env, Fail, Harness, Outcome, roles};

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
    pub(crate) fn start(env: &Env, spec: ChildSpec, role: &str, args: &[(&str, &str)]) -> Result<Self, Fail> {
        let part = Part {
            role: role.into(),
            args: args.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
            namespace: env.namespace().into(),
            seed: env.seed(),
            lateness_ms: env.lateness().as_millis() as u64,
        };
        let failed = |what: &str| Fail::new(format!("starting a child process: {what}"));
        let part = serde_json::to_string(&part).map_err(|error| failed(&error.to_string()))?;
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

/// Plays the part that this process was started for; `None` when it was not started as a child.
pub(crate) fn play(harness: &Arc<dyn Harness>) -> Option<ExitCode> {
    let part = std::env::var(CHILD_VAR).ok()?;
    match played(harness, &part) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(fail) => {
            eprintln!("child: {fail}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn played(harness: &Arc<dyn Harness>, part: &str) -> Outcome {
    let part: Part = serde_json::from_str(part).map_err(|error| Fail::new(error.to_string()))?;
    let role = roles::find(&part.role).ok_or_else(|| Fail::new(format!("no role {:?}", part.role)))?;
    let setting = |info| Setting {
        namespace: part.namespace.clone(),
        seed: part.seed,
        lateness: Duration::from_millis(part.lateness_ms),
        controls: Controls::none(),
        info,
    };
    let runtime = runtime(harness.time(), &Arc::default()).map_err(|error| Fail::new(error.to_string()))?;
    runtime.block_on(async {
        let look = Env::new(harness.clone(), setting(Info::new("unknown")));
        let queue = look.open_unrecorded(|options| options).await?;
        let info = queue.info();
        queue.close().await?;
        role(Env::new(harness.clone(), setting(info)), part.args.into_iter().collect()).await
    })
}
