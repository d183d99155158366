//! Inboxes: what comes in, and what becomes of them, under a paused clock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use polyqueue::{
    ConnectOptions, DedupKey, DedupStore, Destination, Error, Inbox, Message, MessageId, Published, Queue,
    ReplyAddress, Result, TlsOptions,
};
use polyqueue_memory::{MemoryQueue, PROVIDER};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

async fn reply(queue: &MemoryQueue, to: &ReplyAddress, message: Message) -> Result<Published> {
    queue.publish(&to.into(), vec![message]).await?.remove(0)
}

fn nobody(answer: &Result<Published>) {
    assert!(matches!(answer, Err(Error::NotFound(Destination::Reply(_)))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_wakes_the_reader_and_comes_as_it_was_sent() {
    let queue = MemoryQueue::new();
    let inbox: Arc<dyn Inbox> = queue.inbox().await.unwrap().into();
    let address = inbox.address().clone();
    let reading = tokio::spawn(async move { inbox.receive(60 * SECOND).await.unwrap() });
    sleep(SECOND).await;
    let sent = Message::new("answer").with_kind("k").with_header("h", "v").with_correlation_id("c");
    let published = reply(&queue, &address, sent.clone()).await.unwrap();
    let before = Instant::now();
    let got = reading.await.unwrap().remove(0);
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!((got.id(), got.kind(), got.payload()), (&published.id, "k", sent.payload()));
    assert_eq!((got.headers(), got.correlation_id()), (sent.headers(), Some("c")));
    assert!(got.published_at().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_empty_inbox_waits_as_long_as_it_was_told() {
    let queue = MemoryQueue::new();
    let inbox = queue.inbox().await.unwrap();
    let before = Instant::now();
    assert!(inbox.receive(3 * SECOND).await.unwrap().is_empty());
    assert!(before.elapsed() >= 3 * SECOND && before.elapsed() <= 3 * SECOND + MS);
    assert!(inbox.receive(Duration::ZERO).await.unwrap().is_empty());
    let error = inbox.receive(25 * 3600 * SECOND).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { field, .. } if field == "wait"), "{error}");
}

#[tokio::test]
async fn addresses_differ_and_one_that_is_gone_is_not_found() {
    let queue = MemoryQueue::new();
    let (first, second) = (queue.inbox().await.unwrap(), queue.inbox().await.unwrap());
    assert_ne!(first.address(), second.address());
    reply(&queue, second.address(), Message::new("second")).await.unwrap();
    assert!(first.receive(Duration::ZERO).await.unwrap().is_empty());
    assert_eq!(second.receive(Duration::ZERO).await.unwrap()[0].payload(), "second");
    let address = first.address().clone();
    drop(first);
    nobody(&reply(&queue, &address, Message::new("")).await);
    nobody(&reply(&queue, &ReplyAddress::new("never").unwrap(), Message::new("")).await);
}

#[tokio::test]
async fn an_inbox_belongs_to_its_namespace() {
    let here = ConnectOptions::new("memory://inboxes").namespace("here");
    let there = here.clone().namespace("there");
    let [queue, same, other] = [&here, &here, &there].map(|options| MemoryQueue::connect(options).unwrap());
    let inbox = queue.inbox().await.unwrap();
    reply(&same, inbox.address(), Message::new("from another handle")).await.unwrap();
    assert_eq!(inbox.receive(Duration::ZERO).await.unwrap().len(), 1);
    nobody(&reply(&other, inbox.address(), Message::new("")).await);
}

#[tokio::test(start_paused = true)]
async fn a_close_wakes_the_reader() {
    let queue = MemoryQueue::new();
    let inbox: Arc<dyn Inbox> = queue.inbox().await.unwrap().into();
    let reading = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.receive(3600 * SECOND).await }
    });
    sleep(SECOND).await;
    let before = Instant::now();
    queue.close().await.unwrap();
    assert!(matches!(reading.await.unwrap(), Err(Error::Closed)));
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(matches!(inbox.receive(Duration::ZERO).await, Err(Error::Closed)));
    assert!(matches!(queue.inbox().await, Err(Error::Closed)));
}

#[tokio::test]
async fn an_inbox_that_nobody_reads_holds_so_much_and_no_more() {
    let queue = MemoryQueue::new();
    let inbox = queue.inbox().await.unwrap();
    let batch = vec![Message::new(""); 10_001];
    let answers = queue.publish(&inbox.address().into(), batch).await.unwrap();
    assert!(answers[..10_000].iter().all(Result::is_ok));
    assert!(matches!(answers[10_000], Err(Error::Full { limit: 10_000, .. })));
    assert_eq!(inbox.receive(Duration::ZERO).await.unwrap().len(), 10_000);
    reply(&queue, inbox.address(), Message::new("room again")).await.unwrap();
}

#[tokio::test]
async fn replies_take_the_brokers_room_until_they_are_read() {
    let queue = MemoryQueue::with_max_bytes(2_000);
    let inbox = queue.inbox().await.unwrap();
    let large = || Message::new(vec![0; 1_000]);
    reply(&queue, inbox.address(), large()).await.unwrap();
    assert!(matches!(reply(&queue, inbox.address(), large()).await, Err(Error::Full { limit: 2_000, .. })));
    inbox.receive(Duration::ZERO).await.unwrap();
    reply(&queue, inbox.address(), large()).await.unwrap();
    drop(inbox);
    let inbox = queue.inbox().await.unwrap();
    reply(&queue, inbox.address(), large()).await.unwrap();
}

#[derive(Debug)]
struct Store;

#[async_trait]
impl DedupStore for Store {
    async fn claim(&self, _: &DedupKey, _: &MessageId, _: Duration) -> Result<Option<MessageId>> {
        Ok(None)
    }

    async fn release(&self, _: &DedupKey, _: &MessageId) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn encryption_is_refused() {
    let options = ConnectOptions::new("memory://default").tls(TlsOptions::default().server_name("host"));
    let error = PROVIDER.connect(options).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { provider: "memory", .. }), "{error}");
}

#[tokio::test]
async fn a_dedup_store_is_refused() {
    let options = ConnectOptions::new("memory://default").dedup_store(Arc::new(Store));
    let error = PROVIDER.connect(options).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { provider: "memory", .. }), "{error}");
}
