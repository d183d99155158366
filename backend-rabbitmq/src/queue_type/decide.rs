//! Which kind of broker queue a queue is made of.

use crate::queue_type::behavior::QueueType;
use crate::queue_type::classic::Classic;
use crate::queue_type::version::ServerVersion;

/// What the URL asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Requested {
    /// The best that there is.
    #[default]
    Auto,
    /// Classic queues, whatever the broker can do.
    Classic,
}

/// The kind on a broker of this version; none is known of a broker that does not say that it is a RabbitMQ.
pub(crate) fn decide(requested: Requested, version: Option<ServerVersion>) -> &'static dyn QueueType {
    match (requested, version) {
        (Requested::Classic, _) | (Requested::Auto, None) => &Classic,
        // From 4.3 on quorum queues are meant to be it.
        (Requested::Auto, Some(_)) => &Classic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_answered_by_classic_queues() {
        let versions = ["3.8.0", "3.10.8", "3.13.7", "4.0.9", "4.2.1", "4.3.0-rc.1", "4.3.0", "5.0.0"];
        let known = versions.map(|version| ServerVersion::read("RabbitMQ", version));
        assert!(known.iter().all(Option::is_some), "{known:?}");
        let unknown = [ServerVersion::read("RabbitMQ", ""), ServerVersion::read("LavinMQ", "2.4.0")];
        assert_eq!(unknown, [None, None]);
        for requested in [Requested::Auto, Requested::Classic] {
            for version in known.into_iter().chain(unknown) {
                let decided = format!("{:?}", decide(requested, version));
                assert_eq!(decided, "Classic", "{requested:?} {version:?}");
            }
        }
    }
}
