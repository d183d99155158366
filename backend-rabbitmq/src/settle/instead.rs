//! What stands in a delivery's place when it is acked.

use crate::connection::request::PublishRequest;

/// What stands in a delivery's place when it is acked.
#[derive(Debug)]
pub(crate) enum Instead {
    /// It is stored already, or nothing is to be.
    Stored,
    /// A copy for the same queue, which is published in one transaction with the ack.
    Copy(PublishRequest),
}
