//! Many consumers at once: nothing is leased that no receive wants, and what is due does not bring all of them.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use polyqueue::{Consumer, Message, Priority, Queue, Subscription, Verdict};
use polyqueue_conformance::broker::Broker;
use support::{Bench, QUEUE, receive, settle};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MESSAGES: usize = 1500;

/// Handles a tenth of what it gets only at the second attempt, a little later.
async fn work(consumer: Box<dyn Consumer>, done: Arc<AtomicUsize>) {
    let mut count = 0_u64;
    while done.load(Ordering::Relaxed) < MESSAGES {
        let Some(held) = receive(&*consumer, 500).await else { continue };
        count += 1;
        let again = held.attempt == 1 && count.is_multiple_of(10);
        let verdict = match again {
            true => Verdict::retry(Duration::from_millis(count % 21), "again"),
            false => Verdict::Ack,
        };
        settle(&*consumer, &held, verdict).await;
        done.fetch_add(usize::from(!again), Ordering::Relaxed);
    }
}

/// A message that is given to a consumer while it claims would be one too many for its receive: leased, handed to nobody and given
/// back, while others get what comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_leased_that_no_receive_wants() {
    let bench = Bench::start().await;
    bench.command::<()>(&["CONFIG", "SET", "slowlog-max-len", "100000"]).await;
    bench.command::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).await;
    let handles: Vec<Arc<dyn Queue>> =
        vec![bench.queue.clone(), bench.another(10 * SECOND).await, bench.another(10 * SECOND).await];
    let (mut crowd, done) = (JoinSet::new(), Arc::<AtomicUsize>::default());
    for n in 0..7 {
        let consumer = handles[n % 3].subscribe(&Subscription::new(QUEUE)).await.unwrap();
        crowd.spawn(work(consumer, done.clone()));
    }
    for n in 0..MESSAGES {
        let priority = Priority::new(1 + (n * 7 % 10) as u8).unwrap();
        bench.publish(Message::new(n.to_string()).with_priority(priority)).await;
        sleep(Duration::from_micros(n as u64 * 37 % 1500)).await;
    }
    while crowd.join_next().await.is_some() {}
    let client = redis::Client::open(bench.broker.url()).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
    let mut asked = redis::cmd("SLOWLOG");
    let log: redis::Value = asked.arg("GET").arg(-1).query_async(&mut connection).await.unwrap();
    let mut given_back = 0;
    let redis::Value::Array(entries) = log else { panic!("{log:?}") };
    for entry in entries {
        let entry: Vec<redis::Value> = redis::from_redis_value(entry).unwrap();
        let words: Vec<Vec<u8>> = redis::from_redis_value(entry[3].clone()).unwrap();
        let is_settle = words.len() > 25 && words[0] == b"EVALSHA" && words[2] == b"21";
        given_back += usize::from(is_settle && (matches!(&*words[24], b"b" | b"l")));
    }
    assert_eq!(given_back, 0, "given back unhandled");
}

/// Script calls, as the server counted them.
async fn calls(bench: &Bench) -> u64 {
    let info: String = bench.command(&["INFO", "commandstats"]).await;
    let count = |line: &str| line.split_once("calls=")?.1.split_once(',')?.0.parse::<u64>().ok();
    info.lines().filter(|line| line.starts_with("cmdstat_eval")).filter_map(count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_message_brings_few_of_those_that_wait() {
    let bench = Bench::start().await;
    let mut crowd = JoinSet::new();
    for _ in 0..200 {
        let consumer = bench.consumer().await;
        crowd.spawn(async move { while receive(&*consumer, 20_000).await.is_some() {} });
    }
    while bench.command::<usize>(&["ZCARD", "polyqueue:{q}:w"]).await < 200 {
        sleep(SECOND / 100).await;
    }
    for n in 1..=7 {
        bench.publish(Message::new("").with_delay(7 * SECOND + n * SECOND / 2)).await;
    }
    // Until all of them have looked again, and know what is due.
    sleep(6 * SECOND).await;
    let before = calls(&bench).await;
    sleep(49 * SECOND / 10).await;
    let calls = calls(&bench).await - before;
    assert_eq!(bench.stats().await.in_flight, Some(7));
    eprintln!("{calls} calls");
    // Each looks by itself once in five seconds.
    assert!(calls < 200 + 7 * 10, "{calls} calls");
}

/// A place among the few that look at the time is not held by who has looked already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delayed_is_not_late_because_many_wait() {
    let bench = Bench::start().await;
    let (came, mut handed) = tokio::sync::mpsc::unbounded_channel();
    let mut crowd = JoinSet::new();
    let handles = [bench.queue.clone(), bench.another(10 * SECOND).await];
    for n in 0..12 {
        let consumer = handles[n % 2].subscribe(&Subscription::new(QUEUE)).await.unwrap();
        let came = came.clone();
        crowd.spawn(async move {
            loop {
                let Some(held) = receive(&*consumer, 20_000).await else { continue };
                came.send(Instant::now()).unwrap();
                settle(&*consumer, &held, Verdict::Ack).await;
            }
        });
    }
    while bench.command::<usize>(&["ZCARD", "polyqueue:{q}:w"]).await < 12 {
        sleep(SECOND / 100).await;
    }
    let (delay, mut late) = (4 * SECOND / 10, Vec::new());
    for _ in 0..30 {
        let due = Instant::now() + delay;
        bench.publish(Message::new("").with_delay(delay)).await;
        late.push(handed.recv().await.unwrap().saturating_duration_since(due));
        sleep(SECOND / 10).await;
    }
    late.sort();
    // A busy machine may be as late once; whoever looks only in case nobody said looks seconds later.
    assert!(late[28] < SECOND / 2, "{late:?}");
}
