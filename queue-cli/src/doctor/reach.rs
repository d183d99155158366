//! Whether the broker can be reached.

use polyqueue::Error;

use super::finding::Finding;
use crate::exit::when_denied;

const CHECK: &str = "reach";

pub(super) fn reached(broker: &str) -> Finding {
    Finding::good(CHECK, broker)
}

pub(super) fn failed(error: &Error) -> Finding {
    let next = match error {
        Error::Denied { what, .. } => when_denied(what),
        Error::Unsupported { .. } => "use another broker, or another version or setting of it",
        _ => {
            "check that the broker runs and can be reached there; --url, REDIS_URL or RABBITMQ_URL say where"
        }
    };
    Finding::wrong(CHECK, error.to_string(), next)
}
