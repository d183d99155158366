//! A million dead letters are listed by filter, redriven and discarded, each call within its deadline: on memory and Redis the last
//! page as cheap as the first, on RabbitMQ, whose queues are read from their heads only, in one pass that holds nothing in memory. Takes
//! minutes; `cargo test -p polyqueue-conformance --release --test many_dead_letters -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use polyqueue::{
    ConnectOptions, Cursor, DeadFilter, DeadId, DeadReason, Error, Message, Page, Provider, Queue, QueueName,
    QueueSpec, RetryPolicy, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker, RedisBroker};
use tokio::time::Instant;

const LETTERS: usize = 1_000_000;
const BATCH: usize = 500;
const MANY: QueueName = QueueName::from_static("many");

/// How long the calls of one kind took.
struct Times(&'static str, Vec<Duration>);

impl Times {
    async fn of<T>(&mut self, call: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let answer = call.await;
        self.1.push(began.elapsed());
        answer
    }

    fn middle(&self) -> Duration {
        let mut times = self.1.clone();
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// Prints what they cost; each ended well within a deadline of 10 s.
    fn judge(&self) {
        let (longest, all) = (*self.1.iter().max().unwrap(), self.1.iter().sum::<Duration>());
        let (what, calls, middle) = (self.0, self.1.len(), self.middle());
        println!(
            "{what}: {calls} calls in {all:.1?}; the middle one {middle:.2?}, the longest {longest:.2?}"
        );
        assert!(longest < Duration::from_secs(5), "{what}: one took {longest:?}");
    }
}

/// The first and the last page, read in turn: the last costs no more than twice as much.
async fn compare_ends(queue: &dyn Queue, filter: &DeadFilter, last: Cursor) {
    let (mut first_page, mut last_page) = (Times("the first page", vec![]), Times("the last page", vec![]));
    for _ in 0..15 {
        first_page.of(queue.dead_letters(&MANY, filter, Page::first(100))).await.unwrap();
        last_page.of(queue.dead_letters(&MANY, filter, Page::after(last.clone(), 100))).await.unwrap();
    }
    let (first, last) = (first_page.middle(), last_page.middle());
    println!("the first page {first:.2?}, the last {last:.2?}");
    assert!(last < first * 2 + Duration::from_millis(1), "the first {first:?}, the last {last:?}");
}

/// Half of them refused, half out of attempts.
async fn bury(queue: &dyn Queue, letters: usize) {
    queue.declare(&QueueSpec::new(MANY)).await.unwrap();
    let subscription = Subscription::new(MANY).max_attempts(RetryPolicy::default().max_attempts());
    let consumer = queue.subscribe(&subscription).await.unwrap();
    for part in 0..letters / BATCH {
        let batch = (0..BATCH)
            .map(|n| Message::new((part * BATCH + n).to_string()).with_max_attempts(1.try_into().unwrap()));
        let published = queue.publish(&MANY.into(), batch.collect()).await.unwrap();
        assert!(published.iter().all(Result::is_ok));
        let mut dead = 0;
        while dead < BATCH {
            let held = consumer.receive(BATCH - dead, Duration::from_secs(5)).await.unwrap();
            let verdict =
                |n| if n % 2 == 0 { Verdict::reject("no") } else { Verdict::retry(Duration::ZERO, "failed") };
            let verdicts: Vec<_> =
                held.iter().enumerate().map(|(n, held)| (held.receipt.clone(), verdict(n))).collect();
            dead += consumer.settle(&verdicts).await.unwrap().len();
        }
    }
}

/// All that match, by page.
async fn listed(queue: &dyn Queue, filter: &DeadFilter, what: &'static str) -> Vec<DeadId> {
    let (mut times, mut ids, mut page) = (Times(what, Vec::new()), Vec::new(), Page::first(Page::MAX));
    let mut before_last = None;
    loop {
        let found = times.of(queue.dead_letters(&MANY, filter, page)).await.unwrap();
        ids.extend(found.dead_letters.into_iter().map(|letter| letter.id));
        let Some(next) = found.next else { break };
        before_last = Some(next.clone());
        page = Page::after(next, Page::MAX);
    }
    times.judge();
    compare_ends(queue, filter, before_last.unwrap()).await;
    ids
}

async fn a_million(provider: Provider, url: &str) {
    let queue = provider.connect(ConnectOptions::new(url)).await.unwrap();
    let began = Instant::now();
    bury(&*queue, LETTERS).await;
    println!("{}: {LETTERS} dead letters in {:.1?}", queue.info().provider, began.elapsed());
    assert_eq!(queue.stats(&MANY).await.unwrap().dead, LETTERS as u64);
    let none = listed(
        &*queue,
        &DeadFilter::all().reason(DeadReason::Expired),
        "listing by a filter that nothing matches",
    )
    .await;
    assert!(none.is_empty());
    let refused = listed(
        &*queue,
        &DeadFilter::all().reason(DeadReason::Rejected),
        "listing by a filter that half match",
    )
    .await;
    assert_eq!(refused.len(), LETTERS / 2);
    let mut redrives = Times("redrive", Vec::new());
    for part in refused.chunks(100) {
        assert!(redrives.of(queue.redrive(&MANY, part)).await.unwrap().into_iter().all(|done| done));
    }
    redrives.judge();
    let left = listed(&*queue, &DeadFilter::all(), "listing what is left").await;
    assert_eq!(left.len(), LETTERS / 2);
    let mut discards = Times("discard", Vec::new());
    for part in left.chunks(100) {
        assert!(discards.of(queue.discard(&MANY, part)).await.unwrap().into_iter().all(|done| done));
    }
    discards.judge();
    let stats = queue.stats(&MANY).await.unwrap();
    assert_eq!((stats.ready, stats.dead), (LETTERS as u64 / 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: a part of the drill"]
async fn on_memory() {
    a_million(polyqueue_memory::PROVIDER, "memory://many").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: a part of the drill"]
async fn on_redis() {
    let broker = RedisBroker::start().await.unwrap();
    a_million(polyqueue_redis::PROVIDER, &broker.url()).await;
}

/// How many letters there are on RabbitMQ: a million, unless said otherwise.
fn letters_on_rabbitmq() -> usize {
    std::env::var("LETTERS").map_or(LETTERS, |letters| letters.parse().unwrap())
}

/// The memory of this process, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Goes through all that match, page by page, and does `act` with what each page shows. Memory does not grow on the way.
async fn one_pass(queue: &dyn Queue, filter: &DeadFilter, what: &'static str, redrive: bool) -> usize {
    let (mut lists, mut acts) = (Times("listing", Vec::new()), Times(what, Vec::new()));
    let (mut done, mut page, mut before) = (0, Page::first(Page::MAX), None);
    let began = Instant::now();
    loop {
        let found = lists.of(queue.dead_letters(&MANY, filter, page)).await.unwrap();
        let ids: Vec<DeadId> = found.dead_letters.into_iter().map(|letter| letter.id).collect();
        for part in ids.chunks(100) {
            let answers = match redrive {
                true => acts.of(queue.redrive(&MANY, part)).await,
                false => acts.of(queue.discard(&MANY, part)).await,
            };
            assert!(answers.unwrap().into_iter().all(|moved| moved));
        }
        done += ids.len();
        if done >= 10_000 {
            before.get_or_insert_with(resident);
        }
        let Some(next) = found.next else { break };
        page = Page::after(next, Page::MAX);
    }
    let (before, after) = (before.unwrap_or_default(), resident());
    println!(
        "{what}: {done} in {:.1?}; {before} MiB after the first 10,000, {after} MiB at the end",
        began.elapsed()
    );
    lists.judge();
    acts.judge();
    assert!(after < before + 64, "memory grew from {before} to {after} MiB");
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: a part of the drill"]
async fn on_rabbitmq() {
    let letters = letters_on_rabbitmq();
    let broker = RabbitBroker::start().await.unwrap();
    // A node has 0.4 of its machine's memory where nobody says otherwise; the kit's has little, for its alarms.
    broker.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.4)").await.unwrap();
    let open =
        async || polyqueue_rabbitmq::PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
    let queue = open().await;
    let began = Instant::now();
    bury(&*queue, letters).await;
    println!("rabbitmq: {letters} dead letters in {:.1?}", began.elapsed());
    assert_eq!(queue.stats(&MANY).await.unwrap().dead, letters as u64);
    if letters > 200_000 {
        let other = open().await;
        let far = far_cursor(&*queue).await;
        let refused = other.dead_letters(&MANY, &DeadFilter::all(), Page::after(far, 1)).await;
        assert!(
            matches!(&refused, Err(Error::Unsupported { what, .. }) if what.contains("dead redrive")),
            "{refused:?}"
        );
    }
    let began = Instant::now();
    let refused = DeadFilter::all().reason(DeadReason::Rejected);
    assert_eq!(one_pass(&*queue, &refused, "redrive by filter", true).await, letters / 2);
    let stats = queue.stats(&MANY).await.unwrap();
    assert_eq!((stats.ready, stats.dead), (letters as u64 / 2, letters as u64 / 2));
    assert_eq!(one_pass(&*queue, &DeadFilter::all(), "discard all", false).await, letters / 2);
    let stats = queue.stats(&MANY).await.unwrap();
    assert_eq!((stats.ready, stats.dead), (letters as u64 / 2, 0));
    let took = began.elapsed();
    println!("both: {took:.1?}");
    assert!(took.as_secs() * 1_000_000 < 600 * letters as u64 + 30_000_000, "took {took:?}");
}

/// A place behind more letters than a listing of another handle reads.
async fn far_cursor(queue: &dyn Queue) -> Cursor {
    let mut page = Page::first(Page::MAX);
    for _ in 0..220 {
        page = Page::after(
            queue.dead_letters(&MANY, &DeadFilter::all(), page).await.unwrap().next.unwrap(),
            Page::MAX,
        );
    }
    page.after.unwrap()
}
