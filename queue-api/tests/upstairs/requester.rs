//! Request and reply above the memory broker's inboxes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use polyqueue::{
    Backoff, Consumer, Destination, Error, Events, Failure, Health, Inbox, Info, Job, Message, MessageId,
    Pattern, Published, Queue, QueueExt, QueueName, QueueSpec, Requester, Reschedule, Result, RetryPolicy,
    RoutingKey, Subscription, Unknown, Worker, async_trait, forward_admin, with,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::ext::memory;
use crate::scripted::{Ping, Q, ping};

const PATIENCE: Duration = Duration::from_secs(30);

/// A worker that answers with one more, fails on 13 and refuses 0.
fn responder(queue: &Arc<dyn Queue>, on: QueueName) -> (oneshot::Sender<()>, JoinHandle<polyqueue::Report>) {
    let (stop, stopped) = oneshot::channel();
    let retry =
        RetryPolicy::new(2, Backoff::new(Duration::from_secs(1), 1.0, Duration::from_secs(1)).unwrap())
            .unwrap();
    let worker = Worker::new(queue.clone()).retry(retry).unknown(Unknown::DeadLetter).on_request(one_more);
    let run = worker.run([on], stopped);
    (stop, tokio::spawn(async move { run.await.unwrap() }))
}

async fn one_more(job: Job<Ping>) -> std::result::Result<Ping, Failure> {
    match job.payload.0 {
        0 => Err(Failure::fatal("nothing to add to")),
        13 => Err(format!("unlucky, attempt {}", job.attempt).into()),
        n => Ok(Ping(n + 1)),
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_gets_its_own_answer() {
    let queue = memory("rpc-own").await;
    let (stop, worker) = responder(&queue, Q);
    let requester = Arc::new(Requester::open(queue.clone()).await.unwrap());
    let asks = (1..13).map(|n| {
        let requester = requester.clone();
        tokio::spawn(async move { requester.request::<_, Ping>(Q, &Ping(n), PATIENCE).await })
    });
    for (n, answer) in (1..13).zip(asks.collect::<Vec<_>>()) {
        assert_eq!(answer.await.unwrap().unwrap(), Ping(n + 1));
    }
    drop(stop);
    assert_eq!(worker.await.unwrap().acked, 12);
    assert_eq!(requester.late_replies(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_dies_is_answered_with_its_error() {
    let queue = memory("rpc-dies").await;
    let _responder = responder(&queue, Q);
    let requester = Requester::open(queue.clone()).await.unwrap();
    for (n, says) in [(0, "nothing to add to"), (13, "unlucky, attempt 2")] {
        let error = requester.request::<_, Ping>(Q, &Ping(n), PATIENCE).await.unwrap_err();
        assert!(matches!(&error, Error::Remote(said) if said == says), "{error}");
    }
    let unknown = requester.ask(Q, Message::new("?").with_kind("unknown"), PATIENCE).await.unwrap_err();
    assert!(matches!(&unknown, Error::Remote(said) if said.contains("no handler")), "{unknown}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_timeout_and_what_comes_later_is_counted() {
    let queue = memory("rpc-late").await;
    let requester = Requester::open(queue.clone()).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    let began = Instant::now();
    let ask = requester.ask(Q, Message::new("anybody?"), Duration::from_secs(3));
    let (answer, held) = tokio::join!(ask, consumer.receive(1, Duration::ZERO));
    let error = answer.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(error.to_string(), r#"a request to queue "q" timed out after 3s"#);
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    let request = held.unwrap().remove(0).message;
    queue.reply(&request, Message::new("too late")).await.unwrap();
    while requester.late_replies() == 0 {
        tokio::task::yield_now().await;
    }
    let nobody = queue.reply(&Message::new("no address"), Message::new("?")).await.unwrap();
    assert_eq!(nobody, None);
}

#[tokio::test(start_paused = true)]
async fn a_request_nobody_took_in_time_is_never_handled() {
    let queue = memory("rpc-stale").await;
    let requester = Requester::open(queue.clone()).await.unwrap();
    assert!(requester.ask(Q, Message::new("now or never"), Duration::from_secs(3)).await.is_err());
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    assert!(consumer.receive(1, Duration::ZERO).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_gathers_what_comes_in_time() {
    let queue = memory("rpc-all").await;
    let key = RoutingKey::new("ping.all").unwrap();
    let mut workers = Vec::new();
    for name in ["a", "b", "silent"] {
        let name = QueueName::new(name).unwrap();
        queue.declare(&QueueSpec::new(name.clone()).bind(Pattern::new("ping.#").unwrap())).await.unwrap();
        if name.as_str() != "silent" {
            workers.push(responder(&queue, name));
        }
    }
    let requester = Requester::open(queue.clone()).await.unwrap();
    let began = Instant::now();
    let answers = requester.gather::<_, Ping>(&key, &Ping(1), 2, PATIENCE).await.unwrap();
    assert!(answers.len() == 2 && began.elapsed() < PATIENCE, "as many as were asked for are enough");
    let answers = requester.gather::<_, Ping>(&key, &Ping(0), 3, PATIENCE).await.unwrap();
    assert_eq!(answers.len(), 2, "the third is silent");
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Remote(_)))), "{answers:?}");
    assert!(began.elapsed() >= PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_closed_handle_ends_requests_at_once_and_a_dropped_requester_its_inbox() {
    let queue = memory("rpc-closed").await;
    let other = memory("rpc-closed").await;
    let requester = Requester::open(queue.clone()).await.unwrap();
    let consumer = other.subscribe(&Subscription::new(Q)).await.unwrap();
    let ask = requester.ask(Q, Message::new("?"), PATIENCE);
    let close = async {
        tokio::task::yield_now().await;
        queue.close().await.unwrap();
    };
    let began = Instant::now();
    let (answer, ()) = tokio::join!(ask, close);
    assert!(matches!(answer, Err(Error::Closed)), "{answer:?}");
    assert_eq!(began.elapsed(), Duration::ZERO);
    let request = consumer.receive(1, Duration::ZERO).await.unwrap().remove(0).message;
    drop(requester);
    tokio::task::yield_now().await;
    let gone = other.reply(&request, Message::new("!")).await.unwrap_err();
    assert!(matches!(&gone, Error::NotFound(Destination::Reply(_))), "{gone}");
}

#[tokio::test(start_paused = true)]
async fn a_responder_may_have_a_state() {
    let queue = memory("rpc-state").await;
    let adds = with(100_u32, async |added, job: Job<Ping>| Ok(Ping(job.payload.0 + added)));
    let (_stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(Worker::new(queue.clone()).on_request(adds).run([Q], stopped));
    let requester = Requester::open(queue.clone()).await.unwrap();
    assert_eq!(requester.request::<_, Ping>(Q, &Ping(1), PATIENCE).await.unwrap(), Ping(101));
    worker.abort();
}

/// A broker that stores at once, and says so when nobody expects it any more.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn Queue>,
    said: AtomicU32,
}

forward_admin! { impl Admin for Slow => inner }

#[async_trait]
impl Queue for Slow {
    fn info(&self) -> Info {
        self.inner.info()
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.inner.declare(spec).await
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        let answers = self.inner.publish(to, batch).await?;
        sleep(2 * PATIENCE).await;
        self.said.fetch_add(1, SeqCst);
        Ok(answers)
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        self.inner.reschedule(queue, id, to).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.inner.subscribe(subscription).await
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }

    async fn health(&self) -> Health {
        self.inner.health().await
    }

    fn events(&self) -> Events {
        self.inner.events()
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        Ok(Arc::new(Self { inner: self.inner.namespace(namespace)?, said: AtomicU32::new(0) }))
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_does_not_wait_until_the_broker_confirms_its_request() {
    let queue = memory("rpc-unconfirmed").await;
    let _responder = responder(&queue, Q);
    let slow = Arc::new(Slow { inner: queue.clone(), said: AtomicU32::new(0) });
    let requester = Requester::open(slow.clone()).await.unwrap();
    let began = Instant::now();
    assert_eq!(requester.request::<_, Ping>(Q, &Ping(1), PATIENCE).await.unwrap(), Ping(2));
    assert_eq!(began.elapsed(), Duration::ZERO);
    let answers = requester.gather::<_, Ping>(Q, &Ping(1), 2, PATIENCE).await.unwrap();
    assert_eq!((answers.len(), began.elapsed()), (1, PATIENCE), "what came in time");
    let error = requester.ask(QueueName::from_static("none"), ping(1), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    let nobody = requester.gather::<_, Ping>(Q, &Ping(1), 0, PATIENCE).await.unwrap();
    assert!(nobody.is_empty(), "{nobody:?}");
    sleep(2 * PATIENCE).await;
    assert_eq!(slow.said.load(SeqCst), 3, "publishes that went on to their end, where they are counted");
}
