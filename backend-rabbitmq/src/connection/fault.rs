//! What the client library says, in our words.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use polyqueue::backend::tls_refusal;
use polyqueue::{Certainty, Error, Result};

use crate::address::Address;
use crate::address::NAME;
use crate::connection::hold_limit::is_of_a_held_message;

/// An [`Error`] that names the address.
pub(crate) fn fault(address: &Address, certainty: Certainty, error: &lapin::Error) -> Error {
    if let Some(refused) = tls_refusal(error) {
        return Error::denied(NAME, format!("{address}: {refused}"));
    }
    let said = format!("{address}: {error}");
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
            | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH) => {
                Error::denied(NAME, said)
            }
            AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) | AMQPErrorKind::Hard(_) => {
                Error::unavailable(NAME, certainty, said)
            }
            // A channel that ends by what another call did on it; not what a command itself met.
            AMQPErrorKind::Soft(_) if is_about_another(error) => Error::unavailable(NAME, certainty, said),
            AMQPErrorKind::Soft(_) => Error::backend(NAME, certainty, said),
        },
        ErrorKind::AuthProviderError(_) => Error::denied(NAME, said),
        _ => Error::unavailable(NAME, certainty, said),
    }
}

/// Whether a channel was closed for an ack, for the want of one, for what was too large, or for a queue that is not back yet: no answer
/// to anything else that was asked on it.
fn is_about_another(error: &lapin::Error) -> bool {
    let said = error.to_string();
    is_of_a_held_message(&said)
        || is_recovering(&said)
        || ["unknown delivery tag", "larger than configured max size"].iter().any(|text| said.contains(text))
}

/// Whether a queue that is there cannot be used at the moment: its node starts, or it is being restarted there, which the broker calls
/// "not found", too; or it is a stream that is being made or deleted.
fn is_recovering(said: &str) -> bool {
    ["has crashed", "down or inaccessible", "stopped by supervisor", "not have a replica on the local node"]
        .iter()
        .any(|text| said.contains(text))
}

/// Whether a right is missing: "refused" is also what somebody else has for himself.
fn is_a_right(error: &lapin::Error) -> bool {
    error.to_string().contains("refused for user")
}

/// The error of a channel that the broker has closed for whatever reason: another one may do.
pub(crate) fn of_a_closed_channel(error: Error) -> Error {
    match error {
        Error::Backend { certainty, cause, .. } => Error::unavailable(NAME, certainty, cause.to_string()),
        other => other,
    }
}

/// What the broker answered.
pub(crate) type Answer<T> = std::result::Result<T, Refusal>;

/// Why a command was not carried out. Its channel is dead.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The broker has no such object.
    Missing(Error),
    /// Somebody else has it for himself.
    Taken(Error),
    /// The node has just started and does not serve it yet.
    NotYet(Error),
    /// Anything else.
    Failed(Error),
}

impl Refusal {
    /// What the client library's `error` means; `said` is the error for callers who do not care.
    pub(crate) fn new(error: &lapin::Error, said: Error) -> Self {
        match soft(error) {
            Some(AMQPSoftError::NOTFOUND) if is_recovering(&error.to_string()) => Self::NotYet(said),
            Some(_) if is_about_another(error) => Self::Failed(said),
            Some(AMQPSoftError::NOTFOUND) => Self::Missing(said),
            Some(AMQPSoftError::ACCESSREFUSED) if is_a_right(error) => Self::Failed(said),
            Some(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::RESOURCELOCKED) => Self::Taken(said),
            Some(AMQPSoftError::PRECONDITIONFAILED) => Self::NotYet(said),
            _ => Self::Failed(said),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // Who asks for what is not there knows what to do. Elsewhere it has gone a moment ago, and is made again.
            Refusal::Missing(Error::Backend { certainty, cause, .. }) => {
                Self::unavailable(NAME, certainty, cause.to_string())
            }
            Refusal::Missing(e) | Refusal::Taken(e) | Refusal::NotYet(e) | Refusal::Failed(e) => e,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// `None` where the object is missing.
pub(crate) fn if_there<T>(answer: Answer<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Refusal::Missing(_)) => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The broker has no such object.
pub(crate) fn is_missing(error: &lapin::Error) -> bool {
    matches!(soft(error), Some(AMQPSoftError::NOTFOUND)) && !is_recovering(&error.to_string())
}

/// The user may not do it.
pub(crate) fn is_denied(error: &lapin::Error) -> bool {
    matches!(soft(error), Some(AMQPSoftError::ACCESSREFUSED))
}

/// Whether it is an error that ends one channel only.
pub(crate) fn is_of_a_channel(error: &lapin::Error) -> bool {
    soft(error).is_some()
}

/// Which of the errors it is that end one channel only.
fn soft(error: &lapin::Error) -> Option<&AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => match protocol.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn refusal(said: &str) -> Refusal {
        let error = lapin::Error::from(lapin::ErrorKind::ProtocolError(AMQPError::new(
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND),
            said.into(),
        )));
        let address = Address::parse("amqp://host", &Default::default()).unwrap();
        Refusal::new(&error, fault(&address, Certainty::Definite, &error))
    }

    #[test]
    fn what_does_not_answer_for_now_is_not_missing() {
        assert!(matches!(refusal("NOT_FOUND - no queue 'q' in vhost '/'"), Refusal::Missing(_)));
        for said in [
            "NOT_FOUND - queue 'q' in vhost '/' has crashed and failed to restart",
            "NOT_FOUND - home node 'a@b' of durable queue 'q' in vhost '/' is down or inaccessible",
            "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor",
        ] {
            let refusal = refusal(said);
            assert!(matches!(&refusal, Refusal::NotYet(error) if error.is_transient()), "{refusal:?}");
            assert!(if_there::<()>(Err(refusal)).is_err());
        }
    }
}
