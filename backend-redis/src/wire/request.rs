//! What is sent: a command, or a script by its hash.

use redis::{Arg, Cmd};

use crate::wire::names::QueueKeys;

/// A script and its hash.
#[derive(Debug)]
pub(crate) struct Script {
    text: String,
    hash: String,
    /// How many of a queue's keys it declares.
    keys: usize,
}

impl Script {
    pub(crate) fn new(text: String, keys: usize) -> Self {
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash, keys }
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
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

    /// A script that works on one queue.
    pub(crate) fn script(script: &'static Script, keys: &QueueKeys) -> Self {
        Self::on_keys(script, &[keys], &[])
    }

    /// A script that works on some queues, and on keys that are none of theirs.
    pub(crate) fn on_keys(script: &'static Script, queues: &[&QueueKeys], others: &[&str]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.hash).arg(queues.len() * script.keys + others.len());
        for queue in queues {
            command.arg(queue.first(script.keys));
        }
        command.arg(others);
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

    /// What it is about: of a queue what its keys begin with, else its first key; nothing where it has none.
    pub(crate) fn about(&self) -> String {
        let simple = |argument| match argument {
            Arg::Simple(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        };
        let mut arguments = self.command.args_iter().filter_map(simple);
        let key = match self.script {
            Some(_) => arguments.nth(2).filter(|count| count != "0").and_then(|_| arguments.next()),
            None => arguments.nth(1),
        };
        let mut key = key.unwrap_or_default();
        if let Some(end) = key.find('}') {
            key.truncate(end + 1);
        }
        key
    }

    #[cfg(test)]
    pub(crate) fn arguments(&self) -> Vec<bytes::Bytes> {
        let simple = |argument| match argument {
            Arg::Simple(bytes) => Some(bytes::Bytes::copy_from_slice(bytes)),
            _ => None,
        };
        self.command.args_iter().filter_map(simple).collect()
    }

    pub(crate) fn command(&self) -> &Cmd {
        &self.command
    }

    /// The same with the script's text in place of its hash, for a server that has forgotten it.
    pub(crate) fn with_text(&self) -> Option<Cmd> {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.script?.text);
        for argument in self.command.args_iter().skip(2) {
            if let Arg::Simple(bytes) = argument {
                command.arg(bytes);
            }
        }
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts;

    #[test]
    fn what_a_request_is_about() {
        let keys = QueueKeys::with_prefix("ns:{mail}");
        assert_eq!(Request::script(&scripts::CLAIM, &keys).about(), "ns:{mail}");
        assert_eq!(Request::on_keys(&scripts::RIGHTS, &[], &["ns:catalogue"]).about(), "ns:catalogue");
        assert_eq!(Request::on_keys(&scripts::WRITABLE, &[], &[]).about(), "");
        assert_eq!(Request::plain("TIME").about(), "");
        assert_eq!(Request::plain("ZREM").arg("ns:{mail}:w").about(), "ns:{mail}");
    }
}
