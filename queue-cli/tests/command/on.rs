//! Which broker a scenario runs on, and how the command is run there.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use polyqueue_conformance::broker::{Broker, RabbitBroker, RedisBroker};
use serde_json::Value;

pub(crate) struct On {
    envs: Vec<(&'static str, String)>,
}

/// What a run of the command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn redis_url() -> String {
    static PRIVATE: OnceLock<RedisBroker> = OnceLock::new();
    let private = || wait(RedisBroker::start()).expect("a private redis-server");
    std::env::var("REDIS_URL").unwrap_or_else(|_| PRIVATE.get_or_init(private).url())
}

fn rabbitmq_url() -> String {
    static PRIVATE: OnceLock<RabbitBroker> = OnceLock::new();
    let private = || wait(RabbitBroker::start()).expect("a private RabbitMQ node");
    std::env::var("RABBITMQ_URL").unwrap_or_else(|_| PRIVATE.get_or_init(private).url())
}

impl On {
    pub(crate) fn memory() -> Self {
        Self { envs: vec![("MESSAGE_QUEUE_PROVIDER", "memory".into())] }
    }

    /// With no word about the broker.
    pub(crate) fn nothing_chosen() -> Self {
        Self { envs: Vec::new() }
    }

    pub(crate) fn redis(scenario: &str) -> Self {
        Self::broker("redis", "REDIS_URL", redis_url(), scenario)
    }

    pub(crate) fn rabbitmq(scenario: &str) -> Self {
        Self::broker("rabbitmq", "RABBITMQ_URL", rabbitmq_url(), scenario)
    }

    fn broker(provider: &str, variable: &'static str, url: String, scenario: &str) -> Self {
        let unique = format!("cli-{}-{}", std::process::id(), scenario.len());
        let namespace: String = format!("{unique}-{scenario}").chars().take(32).collect();
        Self {
            envs: vec![
                ("MESSAGE_QUEUE_PROVIDER", provider.into()),
                (variable, url),
                ("POLYQUEUE_NAMESPACE", namespace),
            ],
        }
    }

    /// The broker's URL.
    pub(crate) fn url(&self) -> String {
        self.envs.iter().find(|(name, _)| name.ends_with("_URL")).expect("it has a broker").1.clone()
    }

    pub(crate) fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.envs.retain(|(name, _)| *name != variable);
        self.envs.push((variable, value.into()));
        self
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.wrapped(env!("CARGO_BIN_EXE_polyqueue"), args)
    }

    /// Another program, which runs the command in this environment.
    pub(crate) fn wrapped(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for variable in
            ["MESSAGE_QUEUE_PROVIDER", "MEMORY_URL", "REDIS_URL", "RABBITMQ_URL", "POLYQUEUE_NAMESPACE"]
        {
            command.env_remove(variable);
        }
        command.env_remove("RUST_LOG");
        command.envs(self.envs.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().expect("the command runs"))
    }

    /// Runs it and expects success.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.out
    }

    pub(crate) fn with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().expect("the command starts");
        child.stdin.take().expect("it was piped").write_all(input).expect("it reads its input");
        Ran::from(child.wait_with_output().expect("the command ends"))
    }

    /// Runs it, expects success and reads what it prints as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
        serde_json::from_str(&self.ok(&args)).expect("one JSON value")
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Each line of standard output as JSON.
pub(crate) fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}
