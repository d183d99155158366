//! One queue, put to use.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Error, Message, Queue, QueueExt, QueueName, Subscription, Verdict};

pub(crate) const Q: QueueName = QueueName::from_static("q");
pub(crate) const SOON: Duration = Duration::from_secs(10);
pub(crate) const MOMENT: Duration = Duration::from_millis(100);

pub(crate) async fn put(queue: &Arc<dyn Queue>, text: &str, delay: Duration) -> polyqueue::Result<()> {
    queue.publish_one(Q, Message::new(text.to_owned()).with_delay(delay)).await.map(drop)
}

/// The texts of the next messages, in order of their text; each is retried once, before it is acked.
pub(crate) async fn take(queue: &Arc<dyn Queue>, count: usize) -> Vec<String> {
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    let mut texts = Vec::new();
    while texts.len() < count {
        let came = consumer.receive(1, SOON).await.unwrap().pop().expect("nothing came");
        let retry = Verdict::Retry { after: MOMENT, error: "once".into() };
        let verdict = if came.attempt == 1 { retry } else { Verdict::Ack };
        if came.attempt > 1 {
            texts.push(String::from_utf8(came.message.payload().to_vec()).unwrap());
        }
        consumer.settle(&[(came.receipt, verdict)]).await.unwrap().remove(0).unwrap();
    }
    texts.sort();
    texts
}

/// Puts at once, and after a moment; takes both.
pub(crate) async fn works(queue: &Arc<dyn Queue>) {
    put(queue, "now", Duration::ZERO).await.unwrap();
    put(queue, "later", MOMENT).await.unwrap();
    assert_eq!(take(queue, 2).await, ["later", "now"]);
}

pub(crate) fn is_missing<T: std::fmt::Debug>(answer: &polyqueue::Result<T>) -> bool {
    matches!(answer, Err(Error::NotFound(_)))
}
