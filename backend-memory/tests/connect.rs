//! Connecting by hand and through the provider: the same is refused, with the same words.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use polyqueue::chrono::TimeDelta;
use polyqueue::{ConnectOptions, Error, connect};
use polyqueue_memory::{MemoryQueue, PROVIDER};

#[tokio::test]
async fn options_out_of_range_are_refused_either_way() {
    let options = || ConnectOptions::new("memory://refused");
    for refused in [
        options().namespace("No Such"),
        options().deadline(Duration::ZERO),
        options().deadline(Duration::MAX),
        options().clock_offset(TimeDelta::MAX),
        options().clock_offset(TimeDelta::MIN),
    ] {
        let by_hand = MemoryQueue::connect(&refused).unwrap_err();
        assert!(matches!(by_hand, Error::Invalid { .. }), "{by_hand}");
        let provided = connect(&[PROVIDER], refused).await.err().unwrap();
        assert_eq!(by_hand.to_string(), provided.to_string());
    }
}
