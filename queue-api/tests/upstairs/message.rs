//! A message, built and taken apart.

use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::backend::Parts;
use polyqueue::chrono::Utc;
use polyqueue::{Message, Priority, ReplyAddress};

#[test]
fn parts_and_back_is_the_same_message() {
    let message = Message::new("body")
        .with_kind("mail")
        .with_priority(Priority::new(9).unwrap())
        .with_delay(Duration::from_secs(3))
        .not_before(Utc::now())
        .with_max_attempts(NonZeroU32::MIN)
        .with_correlation_id("c")
        .with_ttl(Duration::from_secs(4))
        .with_dedup_key("d")
        .with_reply_to(ReplyAddress::new("r").unwrap())
        .with_header("k", "v");
    assert_eq!(Message::from(message.clone().into_parts()), message);
    let plain = Message::new("body");
    assert_eq!(Message::from(plain.clone().into_parts()), plain);
    assert_eq!(Parts::new(plain.id().clone(), "body"), plain.into_parts());
}

#[test]
fn what_is_no_payload_is_sent_with_its_kind_and_read_without_a_copy() {
    let message = Message::json("greeting", "hello").unwrap();
    assert_eq!((message.kind(), message.schema_version()), ("greeting", None));
    assert_eq!(message.decode::<&str>().unwrap(), "hello");
    let error = message.decode::<u32>().unwrap_err().to_string();
    assert!(error.contains("greeting"), "{error}");
}

#[test]
fn debug_never_shows_the_payload() {
    assert!(!format!("{:?}", Message::new("secret")).contains("secret"));
}
