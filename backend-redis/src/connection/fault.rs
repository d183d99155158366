//! What went wrong, and what that means for the caller and for the connection.

use std::io;

use bytes::Bytes;
use polyqueue::backend::tls_refusal;
use polyqueue::{Certainty, Error, Result};
use redis::{ErrorKind, RedisError, RedisResult, Value};

use crate::address::{Address, Endpoint, NAME};
use crate::wire::reply::Reply;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server does not know the script: it did not run.
    NoScript,
    /// The server refused before it did anything.
    Refused(String),
    /// It takes no writes for now.
    Blocked(String),
    /// The same, and it will go on doing so on this connection.
    ReadOnly(String),
    /// The server cannot serve us, and will go on so on this connection.
    Unfit(String),
    /// Credentials or permissions.
    Denied(String),
    /// The server failed in the middle of it.
    Failed(String),
    /// The server is too old to talk to us.
    TooOld,
    /// A later version of ours made what we are to work on.
    Newer(String),
    /// The connection broke.
    Lost(String),
    /// The deadline passed.
    Late(Error),
    /// The same, and the connection has answered nothing for so long that it must be dead.
    Silent(Error),
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        if let Some(refused) = tls_refusal(&error) {
            return Self::Denied(refused);
        }
        let text = error.to_string();
        match error.kind() {
            ErrorKind::Io | ErrorKind::Parse => return Self::Lost(text),
            ErrorKind::AuthenticationFailed => return Self::Denied(text),
            ErrorKind::RESP3NotSupported => return Self::TooOld,
            _ => {}
        }
        match error.code().unwrap_or_default() {
            "NOSCRIPT" => Self::NoScript,
            "OOM" | "MISCONF" | "NOREPLICAS" => Self::Blocked(text),
            "READONLY" => Self::ReadOnly(text),
            "BUSY" | "TRYAGAIN" => Self::Refused(text),
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" => Self::Unfit(text),
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Denied(text),
            "NEWER" => Self::Newer(text),
            _ if denies(&text) => Self::Denied(text),
            _ => Self::Failed(text),
        }
    }
}

impl Fault {
    /// Whether another connection may do better. One that only lets a caller down who could not wait for long may be all right.
    pub(super) fn drops_connection(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Silent(_) | Self::Unfit(_) | Self::ReadOnly(_))
    }

    /// Whether the server has answered, and did not do it.
    pub(super) fn is_refusal(&self) -> bool {
        !matches!(self, Self::Lost(_) | Self::Late(_) | Self::Silent(_))
    }

    /// What it says where it takes no writes.
    pub(super) fn blocks_writes(&self) -> Option<&str> {
        match self {
            Self::Blocked(text) | Self::ReadOnly(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn into_error(self, address: &Address) -> Error {
        let at = |text: String| format!("{address}: {text}");
        match self {
            Self::NoScript => {
                Error::backend(NAME, Certainty::Definite, at("the server lost the script again".into()))
            }
            Self::Refused(text) | Self::Blocked(text) | Self::ReadOnly(text) | Self::Unfit(text) => {
                Error::unavailable(NAME, Certainty::Definite, at(text))
            }
            Self::Denied(text) => Error::denied(NAME, at(text)),
            Self::Failed(text) => Error::backend(NAME, Certainty::Unknown, at(text)),
            Self::TooOld => Error::unsupported(
                NAME,
                at("a server that does not speak RESP3: 7.0 or later is needed".into()),
            ),
            Self::Newer(text) => Error::unsupported(NAME, at(text)),
            Self::Lost(text) => Error::unavailable(NAME, Certainty::Unknown, at(text)),
            Self::Late(error) | Self::Silent(error) => error,
        }
    }
}

/// Whether it is said that the user may not do it: within a script that has no code of its own.
fn denies(text: &str) -> bool {
    text.contains("The user executing the script") || text.contains("ACL failure in script")
}

/// What a script says of one item that it could not do; `certainty`: whether it may have happened.
pub(crate) fn of_item(text: String, certainty: Certainty) -> Error {
    match denies(&text) || text.starts_with("NOPERM") {
        true => Error::denied(NAME, text),
        false => Error::backend(NAME, certainty, text),
    }
}

/// Why there is no stream to a server: nothing was sent.
pub(super) fn unreachable(endpoint: &Endpoint, error: &io::Error) -> Error {
    match tls_refusal(error) {
        Some(refused) => Error::denied(NAME, format!("{endpoint}: {refused}")),
        None => Error::unavailable(NAME, Certainty::Definite, format!("{endpoint}: {error}")),
    }
}

/// What the server answered, or why that is no answer.
pub(super) fn read(answer: RedisResult<Value>) -> Result<Reply, Fault> {
    reply_of(answer.map_err(Fault::from)?)
}

fn reply_of(value: Value) -> Result<Reply, Fault> {
    Ok(match value {
        Value::Int(number) => Reply::Number(number),
        Value::BulkString(bytes) => Reply::Bytes(bytes.into()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Reply::Bytes(text.into()),
        Value::Okay => Reply::Bytes(Bytes::from_static(b"OK")),
        Value::Array(values) | Value::Set(values) => {
            Reply::List(values.into_iter().map(reply_of).collect::<Result<_, _>>()?)
        }
        Value::Map(pairs) => {
            let flat = pairs.into_iter().flat_map(|(key, value)| [key, value]);
            Reply::List(flat.map(reply_of).collect::<Result<_, _>>()?)
        }
        Value::ServerError(error) => return Err(redis::RedisError::from(error).into()),
        _ => Reply::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_refuses_has_not_happened_and_what_it_fails_in_may_have() {
        let address = Address::parse("redis://127.0.0.1", &polyqueue::TlsOptions::default()).unwrap();
        let said = |line: &str| {
            let answer = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
            read(answer).unwrap_err().into_error(&address)
        };
        for line in [
            "READONLY You can't write against a read only replica. script: x, on @user_script:1.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "NOREPLICAS Not enough good replicas to write.",
        ] {
            let error = said(line);
            assert!(matches!(error, Error::Unavailable { certainty: Certainty::Definite, .. }), "{error:?}");
        }
        for line in [
            "NOPERM this user has no permissions to run the 'xadd' command",
            "ERR user_script:234: ERR The user executing the script can't run this command or subcommand script: x",
            "ERR ACL failure in script: User app has no permissions to run the 'xadd' command script: x",
        ] {
            assert!(matches!(said(line), Error::Denied { .. }), "{line}");
            let item = of_item(line.trim_start_matches("ERR user_script:234: ").into(), Certainty::Definite);
            assert!(matches!(item, Error::Denied { .. }), "{line}");
        }
        let error = said("ERR user_script:1: something else");
        assert_eq!(error.certainty(), Certainty::Unknown, "{error:?}");
    }
}
