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
    use polyqueue::Message;

    use super::*;
    use crate::wire::encode::encode;

    /// The broker's runtime keeps larger ones apart from what refers to them: a fifth of its throughput.
    #[test]
    fn what_a_plain_message_says_fits_into_sixty_four_bytes() {
        let said = stamped(encode(&Message::new("body"), 1_700_000_000_123), "0123456");
        let texts = [said.message_id(), said.app_id()].map(|text| 1 + text.as_ref().unwrap().as_str().len());
        let (flags, delivery_mode, priority, timestamp) = (2, 1, 1, 8);
        assert_eq!(flags + delivery_mode + priority + timestamp + texts.iter().sum::<usize>(), 64);
        let others = [said.kind(), said.correlation_id(), said.reply_to(), said.expiration()];
        assert!(others.iter().all(|other| other.is_none()) && said.headers().is_none());
    }

    #[test]
    fn a_stamp_is_read_back_and_replaces_an_earlier_one() {
        let plain = BasicProperties::default();
        let ours = plain.clone().with_app_id("pq@123".into());
        let foreign = plain.clone().with_app_id("theirs".into());
        for (properties, app) in
            [(plain, "pq@/b"), (ours, "pq@123/b"), (foreign.with_headers(FieldTable::default()), "theirs")]
        {
            assert_eq!(stamp(&properties), None);
            let twice = stamped(stamped(properties, "a"), "b");
            assert_eq!((stamp(&twice), twice.app_id().as_ref().unwrap().as_str()), (Some("b"), app));
        }
    }
}
