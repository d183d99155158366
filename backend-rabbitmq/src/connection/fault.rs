//! What the client library says, in our words.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use polyqueue::{Certainty, Error};

use crate::address::Address;
use crate::address::NAME;

/// An [`Error`] that names the address.
pub(crate) fn fault(address: &Address, certainty: Certainty, error: &lapin::Error) -> Error {
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
            AMQPErrorKind::Soft(_) => Error::backend(NAME, certainty, said),
        },
        ErrorKind::AuthProviderError(_) => Error::denied(NAME, said),
        _ => Error::unavailable(NAME, certainty, said),
    }
}

/// The broker has no such object.
pub(crate) fn is_missing(error: &lapin::Error) -> bool {
    is_soft(error, &AMQPSoftError::NOTFOUND)
}

/// Somebody else has it for himself.
pub(crate) fn is_taken(error: &lapin::Error) -> bool {
    is_soft(error, &AMQPSoftError::ACCESSREFUSED) || is_soft(error, &AMQPSoftError::RESOURCELOCKED)
}

/// The node has just started and does not serve this object yet.
pub(crate) fn is_not_yet(error: &lapin::Error) -> bool {
    is_missing(error) || is_soft(error, &AMQPSoftError::PRECONDITIONFAILED)
}

fn is_soft(error: &lapin::Error, kind: &AMQPSoftError) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => {
            matches!(protocol.kind(), AMQPErrorKind::Soft(soft) if soft == kind)
        }
        _ => false,
    }
}
