//! How a run ends: the exit code, and an error that says what, where and what to do.

use std::process::ExitCode;

use polyqueue::{Error, Invalid};

use crate::stderr;

/// What a shell shows of a command that a closed pipe ended: 128 + SIGPIPE.
const BY_CLOSED_PIPE: u8 = 141;

/// Why a run ended early.
#[derive(Debug)]
pub(crate) enum Exit {
    /// The queue, or the broker, answered with an error.
    Queue(Error),
    /// Something else failed.
    Failed(String),
    /// What was typed makes no sense, found after parsing.
    Usage(String),
    /// There is nothing to do it with.
    NothingThere(String),
    /// Something is wrong with the broker; the output says what.
    Wrong,
    /// The reader of standard output has gone.
    NobodyReads,
}

pub(crate) type Result<T, E = Exit> = std::result::Result<T, E>;

impl From<Error> for Exit {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(_) => Self::NothingThere(error.to_string()),
            error => Self::Queue(error),
        }
    }
}

impl From<Invalid> for Exit {
    fn from(error: Invalid) -> Self {
        Self::Queue(error.into())
    }
}

impl From<std::io::Error> for Exit {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Exit {
    /// What failed, where it is neither a mistake of who typed it nor a finding.
    pub(crate) fn failure(&self) -> Option<String> {
        match self {
            Self::Queue(error) => Some(error.to_string()),
            Self::Failed(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Says on standard error why, and answers the exit code.
    pub(crate) fn report(self, broker: &str) -> ExitCode {
        match self {
            Self::Queue(error) => {
                stderr::line(format!(
                    "polyqueue: {error}\n  broker: {broker}\n  next: {}",
                    next_step(&error)
                ));
                ExitCode::from(if matches!(error, Error::Invalid { .. }) { 2 } else { 1 })
            }
            Self::Failed(text) => {
                stderr::line(format!("polyqueue: {text}"));
                ExitCode::from(1)
            }
            Self::Usage(text) => {
                stderr::line(format!("polyqueue: {text}"));
                ExitCode::from(2)
            }
            Self::NothingThere(text) => {
                stderr::line(format!("polyqueue: {text}"));
                ExitCode::from(3)
            }
            Self::Wrong => ExitCode::from(4),
            Self::NobodyReads => ExitCode::from(BY_CLOSED_PIPE),
        }
    }
}

fn next_step(error: &Error) -> &'static str {
    match error {
        Error::Unavailable { .. } => {
            "check that the broker runs and can be reached there; --url, REDIS_URL or RABBITMQ_URL say where"
        }
        Error::Timeout { .. } => {
            "check that the broker can be reached there and is not overloaded, and that somebody works a full queue off"
        }
        Error::Denied { what, .. } => when_denied(what),
        Error::Full { .. } => "consume or purge first, or raise the limit",
        Error::Invalid { .. } => "correct the value and run it again; nothing was sent",
        Error::Unsupported { .. } => "use another broker, another version of it, or do without",
        Error::Codec { .. } => "check the payload against what its reader expects",
        Error::Remote(_) => "look at the responder's log and at its queue's dead letters",
        Error::NotFound(_) => "publish to the queue first, or check its name and POLYQUEUE_NAMESPACE",
        Error::Closed => "run it again",
        _ => "see the broker's own log",
    }
}

/// What to do about it where one side does not let the other in: of a certificate, or of a user.
pub(crate) fn when_denied(what: &str) -> &'static str {
    let is_tls = ["certificate", "encryption", "TLS"].iter().any(|word| what.contains(word));
    match is_tls {
        true => {
            "name by ?ca=FILE the CA that signed the server's certificate, by ?server_name=NAME the name that it is for, by ?cert=FILE and ?key=FILE this client's own: whichever the error is about"
        }
        false => "check the user and password in the URL, and what that user may do",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_for_a_certificate_is_not_sent_to_look_at_his_password() {
        for what in [
            "redis://h:1: the server's certificate is signed by no CA that is trusted here: name its CA's file by ca",
            "redis://h:1: the server's certificate is not for localhost: connect by a name that it is for",
            "redis://h:1: no encryption comes about: peer sent no certificates",
            "redis://h:1: what answers there does not speak TLS: give the port where the server does",
        ] {
            assert!(when_denied(what).contains("?ca="), "{what}");
        }
        for what in ["WRONGPASS invalid username-password pair or user is disabled.", "ACCESS_REFUSED"] {
            assert!(when_denied(what).contains("password"), "{what}");
        }
    }
}
