//! In which boot of the broker a copy was published: what has come back since is known from what a crash of the broker has marked.

use lapin::BasicProperties;

use super::properties::{BORN, as_text, entry, key, text};

/// Begins it in `app_id`, behind the time of publishing.
const BOOT: char = '/';

/// The same copy, saying so. In `app_id` where that is this library's, for a header costs the broker more; nothing is said on what is
/// no copy of a message.
pub(crate) fn stamped(properties: BasicProperties, boot: &str) -> BasicProperties {
    let app = properties.app_id().as_ref().map(|app| app.as_str());
    if let Some(born) = app.map_or(Some(""), |app| app.strip_prefix(BORN)).map(before) {
        let stamp = format!("{BORN}{born}{BOOT}{boot}");
        return properties.with_app_id(stamp.into());
    }
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(key::BOOT.into(), text(boot));
    properties.with_headers(headers)
}

/// In which boot it was published, where it says so.
pub(crate) fn stamp(properties: &BasicProperties) -> Option<&str> {
    let app = properties.app_id().as_ref().and_then(|app| app.as_str().strip_prefix(BORN)?.split_once(BOOT));
    let header =
        || properties.headers().as_ref().and_then(|headers| entry(headers, key::BOOT)).and_then(as_text);
    app.map(|(_, boot)| boot).or_else(header)
}

/// What `app_id` says of the time of publishing.
pub(super) fn before(born: &str) -> &str {
    born.split_once(BOOT).map_or(born, |(born, _)| born)
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_replaces_an_earlier_one() {
        let plain = BasicProperties::default();
        let ours = plain.clone().with_app_id("polyqueue@1700000000000".into());
        let foreign = plain.clone().with_app_id("theirs".into());
        for (properties, app) in [
            (plain, "polyqueue@/b"),
            (ours, "polyqueue@1700000000000/b"),
            (foreign.with_headers(FieldTable::default()), "theirs"),
        ] {
            assert_eq!(stamp(&properties), None);
            let twice = stamped(stamped(properties, "a"), "b");
            assert_eq!((stamp(&twice), twice.app_id().as_ref().unwrap().as_str()), (Some("b"), app));
        }
    }
}
