//! What is sent: a command, or a script by its hash.

use redis::{Arg, Cmd};

/// A script and its hash.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// A command with its arguments.
pub(crate) struct Request {
    command: Cmd,
    script: Option<&'static Script>,
}

impl Request {
    /// A plain command.
    pub(crate) fn plain(name: &str) -> Self {
        Self { command: redis::cmd(name), script: None }
    }

    /// A script that works on these keys.
    pub(crate) fn script(script: &'static Script, keys: &[&str]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.hash).arg(keys.len()).arg(keys);
        Self { command, script: Some(script) }
    }

    pub(crate) fn arg(&mut self, argument: impl AsRef<[u8]>) -> &mut Self {
        self.command.arg(argument.as_ref());
        self
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.command.arg(number);
        self
    }

    #[cfg(test)]
    pub(crate) fn arguments(&self) -> Vec<bytes::Bytes> {
        let simple = |argument| match argument {
            Arg::Simple(bytes) => Some(bytes::Bytes::copy_from_slice(bytes)),
            _ => None,
        };
        self.command.args_iter().filter_map(simple).collect()
    }

    pub(super) fn command(&self) -> &Cmd {
        &self.command
    }

    /// The same with the script's text in place of its hash, for a server that has forgotten it.
    pub(super) fn with_text(&self) -> Option<Cmd> {
        let mut command = redis::cmd("EVAL");
        command.arg(self.script?.text);
        for argument in self.command.args_iter().skip(2) {
            if let Arg::Simple(bytes) = argument {
                command.arg(bytes);
            }
        }
        Some(command)
    }
}
