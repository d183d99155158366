//! One child process that cannot outlive this one.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::time::timeout;

use super::error::{BrokerError, Result};

/// The watchdog leads the process group that the broker joins, and waits on a pipe that only this process holds: when
/// the pipe closes, we are gone (even by SIGKILL), so it kills the broker, removes the data, and ends the group.
const WATCHDOG: &str = r#"trap '' INT TERM HUP
read -r pid
read -r _
[ -z "$pid" ] || kill -9 "$pid"
rm -rf -- "$1" || { sleep 0.2; rm -rf -- "$1"; }
kill -9 0"#;

/// A broker process and its watchdog. Dropping it kills both.
#[derive(Debug)]
pub(super) struct Process {
    watchdog: Child,
    broker: Child,
}

impl Process {
    /// Starts `command`. Should this process die, the broker does too and `dir` is removed.
    pub(super) fn spawn(program: &'static str, mut command: Command, dir: &Path) -> Result<Self> {
        let mut watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "broker-watchdog"])
            .arg(dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(BrokerError::io("starting the watchdog"))?;
        // A process group of its own also keeps the terminal's Ctrl-C away from the broker.
        let spawned = command.process_group(watchdog.id() as i32).spawn();
        let broker = match spawned {
            Ok(broker) => broker,
            Err(source) => {
                end(&mut watchdog);
                return Err(match source.kind() {
                    std::io::ErrorKind::NotFound => BrokerError::Missing { program },
                    _ => BrokerError::io(format!("starting {program}"))(source),
                });
            }
        };
        let mut process = Self { watchdog, broker };
        process.tell_watchdog()?;
        Ok(process)
    }

    fn tell_watchdog(&mut self) -> Result<()> {
        let pid = self.broker.id();
        match &mut self.watchdog.stdin {
            Some(pipe) => writeln!(pipe, "{pid}").map_err(BrokerError::io("telling the watchdog")),
            None => Ok(()),
        }
    }

    /// The broker's standard input and output, if it was started with pipes; once.
    pub(super) fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        Some((self.broker.stdin.take()?, self.broker.stdout.take()?))
    }

    /// The broker's process id.
    pub(super) fn pid(&self) -> u32 {
        self.broker.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.broker.try_wait().ok().flatten()
    }

    /// Sends a signal to the broker alone. One that stops it has done so when this returns.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.broker.id() as i32) else { return Ok(()) };
        let sent = kill_process(pid, signal).and_then(|()| match signal {
            Signal::STOP => until_stopped(pid),
            _ => Ok(()),
        });
        sent.map_err(|e| BrokerError::io(format!("sending {signal:?}"))(e.into()))
    }

    /// Kills the broker and its watchdog and waits for their end, which a SIGKILL brings within milliseconds.
    pub(super) fn kill(mut self) {
        self.kill_group();
    }

    fn kill_group(&mut self) {
        // The watchdog has not been waited for yet, so the group's id cannot have been given to anybody else.
        if let Some(group) = Pid::from_raw(self.watchdog.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        end(&mut self.broker);
        end(&mut self.watchdog);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.watchdog.try_wait(), Ok(Some(_))) {
            self.kill_group();
        }
    }
}

/// A process of many threads goes on for a while after the signal, long enough for an answer on a busy machine.
fn until_stopped(pid: Pid) -> rustix::io::Result<()> {
    // Its end stays to be waited for, and so does its stop.
    let look = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let began = Instant::now();
    while waitid(WaitId::Pid(pid), look)?.is_none() {
        if began.elapsed() > STOP_SEEN_WITHIN {
            return Err(rustix::io::Errno::TIMEDOUT);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Far more than the threads of a process take to be stopped.
const STOP_SEEN_WITHIN: Duration = Duration::from_secs(5);

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// How long to wait before asking a broker again.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Does `work`, at most for `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(BrokerError::Late { what: what.to_owned(), waited: limit }),
    }
}
