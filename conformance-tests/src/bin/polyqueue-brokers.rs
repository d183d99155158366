//! Starts private brokers for a human or for another program: `polyqueue-brokers redis|rabbitmq|both [-- CMD…]`.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use polyqueue_conformance::broker::{Broker, RabbitBroker, RedisBroker, Result};
use rustix::process::{Pid, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

const USAGE: &str = "usage: brokers redis|rabbitmq|both [-- COMMAND [ARGUMENT…]]

Starts private brokers on loopback and runs COMMAND with REDIS_URL and RABBITMQ_URL set; its status is the status.
Without COMMAND: prints the variables in a form for the shell and waits for Ctrl-C or SIGTERM.";

/// How long COMMAND may take to end after a signal was passed on to it.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (which, command) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [which @ ("redis" | "rabbitmq" | "both")] => (which, None),
        [which @ ("redis" | "rabbitmq" | "both"), "--", _, ..] => (which, Some(&arguments[2..])),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(which, command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("brokers: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(which: &str, command: Option<&[String]>) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut signals = Signals::new()?;
    // A signal while they start drops what has been started.
    let brokers = tokio::select! {
        brokers = start(which) => brokers?,
        number = signals.next() => return Ok(ExitCode::from(128 + number)),
    };
    let variables: Vec<(&str, String)> = brokers.iter().map(|(name, broker)| (*name, broker.url())).collect();
    match command {
        Some(command) => attend(command, &variables, &mut signals).await,
        None => {
            for (name, url) in &variables {
                println!("export {name}='{url}'");
            }
            signals.next().await;
            Ok(ExitCode::SUCCESS)
        }
    }
}

type Started = Vec<(&'static str, Box<dyn Broker>)>;

async fn start(which: &str) -> Result<Started> {
    let redis = async {
        if which == "rabbitmq" {
            return Ok(None);
        }
        let broker: Box<dyn Broker> = Box::new(RedisBroker::start().await?);
        Ok(Some(("REDIS_URL", broker)))
    };
    let rabbitmq = async {
        if which == "redis" {
            return Ok(None);
        }
        let broker: Box<dyn Broker> = Box::new(RabbitBroker::start().await?);
        Ok(Some(("RABBITMQ_URL", broker)))
    };
    let (redis, rabbitmq) = tokio::try_join!(redis, rabbitmq)?;
    Ok(redis.into_iter().chain(rabbitmq).collect())
}

/// Runs the command to its end, passing signals on to it.
async fn attend(
    command: &[String],
    variables: &[(&str, String)],
    signals: &mut Signals,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let (program, arguments) = command.split_first().ok_or(USAGE)?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(variables.iter().map(|(name, url)| (*name, url)))
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let mut patience = None;
    loop {
        tokio::select! {
            status = child.wait() => return status.map(exit_code).map_err(Into::into),
            number = signals.next() => {
                pass_on(&child, number);
                patience.get_or_insert(Instant::now() + PATIENCE);
            }
            () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => child.start_kill()?,
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|number| 128 + number));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn pass_on(child: &Child, number: u8) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    let signal = rustix::process::Signal::from_named_raw(number.into());
    if let (Some(pid), Some(signal)) = (pid, signal) {
        let _ = kill_process(pid, signal);
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The number of the next signal that asks us to end.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
        }
    }
}
