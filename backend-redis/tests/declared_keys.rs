//! Every script declares every key that it touches: only so can a cluster's server send it to the right node, or hold it off
//! while a slot moves. The server's own record of what it ran is the witness.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::{
    DeadFilter, Dedup, Destination, Message, Overflow, Page, Priority, Purge, QueueName, QueueSpec,
    Reschedule, RoutingKey, Subscription, Verdict,
};
use polyqueue_conformance::broker::Broker;
use support::{Bench, receive, settle};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const LONG: u64 = 10_000;
const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(30);

/// What the server says that it runs.
struct Monitor(BufReader<TcpStream>);

/// A command, and whether a script called it.
struct Ran {
    by_script: bool,
    words: Vec<Vec<u8>>,
}

impl Monitor {
    async fn start(bench: &Bench) -> Self {
        let address = bench.broker.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"MONITOR\r\n").await.unwrap();
        let mut monitor = Self(BufReader::new(stream));
        assert_eq!(monitor.line().await, b"+OK");
        monitor
    }

    async fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).await.unwrap();
        line.truncate(line.len() - 2);
        line
    }

    /// All up to an `ECHO` of this word.
    async fn until(&mut self, word: &[u8]) -> Vec<Ran> {
        let mut all = Vec::new();
        loop {
            let ran = Ran::read(&self.line().await);
            if ran.words.len() == 2 && ran.words[1] == word {
                return all;
            }
            all.push(ran);
        }
    }
}

impl Ran {
    /// From `+1339518083.107412 [0 lua] "GET" "key"`.
    fn read(line: &[u8]) -> Self {
        let head = line.iter().position(|byte| *byte == b']').unwrap();
        let mut words = Vec::new();
        let mut rest = line[head..].iter().copied();
        while rest.any(|byte| byte == b'"') {
            let mut word = Vec::new();
            while let Some(byte) = rest.next().filter(|byte| *byte != b'"') {
                word.push(if byte == b'\\' { escaped(&mut rest) } else { byte });
            }
            words.push(word);
        }
        Self { by_script: line[..head].ends_with(b" lua"), words }
    }
}

fn escaped(rest: &mut impl Iterator<Item = u8>) -> u8 {
    match rest.next().unwrap() {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        b'x' => {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
        }
        plain => plain,
    }
}

/// The keys of a command, as the server finds them.
async fn keys_of(connection: &mut redis::aio::MultiplexedConnection, words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if matches!(&*words[0], b"TIME" | b"PUBLISH" | b"INFO") {
        return Vec::new();
    }
    let mut command = redis::cmd("COMMAND");
    command.arg("GETKEYS").arg(words);
    command.query_async(connection).await.unwrap()
}

/// Fails for a key that a script touched and did not declare. Answers what each script touched of what it declared, by position.
async fn touched(bench: &Bench, ran: &[Ran]) -> HashMap<Vec<u8>, BTreeSet<usize>> {
    let client = redis::Client::open(bench.broker.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut touched: HashMap<Vec<u8>, BTreeSet<usize>> = HashMap::new();
    let (mut script, mut declared): (Vec<u8>, &[Vec<u8>]) = (Vec::new(), &[]);
    let mut hashes = HashMap::new();
    for Ran { by_script, words } in ran {
        if *by_script {
            for key in keys_of(&mut connection, words).await {
                let at = declared.iter().position(|declared| *declared == key);
                let shown = || words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>();
                let at = at.unwrap_or_else(|| panic!("{} is not declared", shown().join(" ")));
                touched.entry(script.clone()).or_default().insert(at);
            }
        } else if words[0].starts_with(b"EVAL") {
            let count: usize = std::str::from_utf8(&words[2]).unwrap().parse().unwrap();
            declared = &words[3..3 + count];
            // The same script by its text, after a call by its hash that the server did not know.
            script.clone_from(&words[1]);
            if words[0] == b"EVAL" {
                let command = redis::cmd("SCRIPT").arg("LOAD").arg(&words[1]).to_owned();
                let text = words[1].clone();
                if !hashes.contains_key(&text) {
                    let hash: String = command.query_async(&mut connection).await.unwrap();
                    hashes.insert(text.clone(), hash);
                }
                script = hashes[&text].clone().into_bytes();
            }
            touched.entry(script.clone()).or_default();
        }
    }
    touched
}

fn message(text: &str) -> Message {
    Message::new(text.to_owned())
}

/// All that happens to messages of a queue, whatever its options.
async fn live(bench: &Bench, queue: &QueueName, with_keys: bool) {
    let send = async |message: Message| bench.send(queue.clone(), message).await.unwrap();
    let subscription = Subscription::new(queue.clone())
        .lease(Duration::from_secs(1))
        .max_attempts(NonZeroU32::new(2).unwrap());
    let consumer = bench.subscribe(subscription).await;
    for p in [1, 5, 10] {
        send(message("urgent").with_priority(Priority::new(p).unwrap()).with_ttl(HOUR)).await;
    }
    send(message("delayed").with_delay(HOUR)).await;
    let moved = send(message("moved").with_delay(HOUR)).await;
    let cancelled = send(message("cancelled").with_delay(HOUR)).await;
    if with_keys {
        let keyed =
            send(message("keyed").with_dedup_key("k").with_priority(Priority::new(10).unwrap())).await;
        assert_eq!(send(message("again").with_dedup_key("k")).await.duplicate_of, Some(keyed.id));
        send(message("dies").with_dedup_key("d").with_ttl(SOON)).await;
        send(message("due").with_dedup_key("e").with_ttl(HOUR).with_delay(SOON)).await;
    }
    send(message("expires").with_ttl(SOON)).await;
    send(message("due").with_delay(SOON)).await;
    assert!(bench.queue.reschedule(queue, &moved.id, Reschedule::After(SOON)).await.unwrap());
    assert!(bench.queue.reschedule(queue, &cancelled.id, Reschedule::Cancel).await.unwrap());
    tokio::time::sleep(2 * SOON).await;
    for verdict in [
        Verdict::Ack,
        Verdict::Release { after: Duration::ZERO },
        Verdict::Release { after: HOUR },
        Verdict::retry(Duration::ZERO, "once"),
        Verdict::retry(Duration::ZERO, "twice"),
        Verdict::reject("never"),
    ] {
        let Some(held) = receive(&*consumer, 100).await else { break };
        consumer.extend(std::slice::from_ref(&held.receipt)).await.unwrap();
        settle(&*consumer, &held, verdict).await;
    }
    bench.queue.stats(queue).await.unwrap();
    // One that waits is given the next, and one that holds a message too long loses it.
    while let Some(held) = receive(&*consumer, 50).await {
        settle(&*consumer, &held, Verdict::Ack).await;
    }
    let (given, _) = tokio::join!(receive(&*consumer, LONG), async {
        tokio::time::sleep(5 * SOON).await;
        send(message("given").with_ttl(HOUR)).await;
        send(message("woken")).await;
    });
    drop(given);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    receive(&*consumer, 100).await;
    let page = bench.queue.dead_letters(queue, &DeadFilter::all(), Page::first(500)).await.unwrap();
    let ids: Vec<_> = page.dead_letters.into_iter().map(|letter| letter.id).collect();
    if ids.len() > 1 {
        bench.queue.redrive(queue, &ids[..1]).await.unwrap();
        bench.queue.discard(queue, &ids[1..]).await.unwrap();
    }
    bench.queue.purge(queue, Purge::Dead).await.unwrap();
    bench.queue.purge(queue, Purge::Waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_script_touches_a_key_that_it_does_not_declare() {
    let bench = Bench::start().await;
    let mut monitor = Monitor::start(&bench).await;
    bench.another(HOUR).await.close().await.unwrap();
    let other = |name| QueueSpec::new(QueueName::from_static(name));
    let ours = [
        other("q").bind("a.#".parse().unwrap()),
        other("keys")
            .dedup(Dedup::until_ack(HOUR))
            .bind("a.#".parse().unwrap())
            .dead_max_len(5)
            .dead_max_age(HOUR),
        other("window").dedup(Dedup::window(SOON)),
        other("drops").bound(2, Overflow::DropOldest),
        other("blocks").bound(1, Overflow::Block).bind("a.*".parse().unwrap()),
    ];
    for spec in &ours {
        bench.queue.declare(spec).await.unwrap();
    }
    assert!(bench.queue.health().await.healthy);
    for spec in &ours[..3] {
        live(&bench, &spec.name, spec.dedup.is_some()).await;
    }
    for _ in 0..5 {
        bench.send(ours[3].name.clone(), message("dropped")).await.unwrap();
    }
    let topic = Destination::from(RoutingKey::new("a.b").unwrap());
    bench.send(topic.clone(), message("copied").with_ttl(HOUR)).await.unwrap();
    bench.send(topic, message("delayed").with_delay(HOUR)).await.unwrap();
    let consumer = bench.subscribe(Subscription::new(ours[4].name.clone())).await;
    tokio::join!(bench.send(ours[4].name.clone(), message("waits")), async {
        tokio::time::sleep(2 * SOON).await;
        let held = receive(&*consumer, LONG).await.unwrap();
        settle(&*consumer, &held, Verdict::Ack).await;
    })
    .0
    .unwrap();
    drop(consumer);
    for spec in &ours {
        bench.queue.delete(&spec.name).await.unwrap();
    }
    bench.command::<String>(&["ECHO", "the end"]).await;
    let ran = monitor.until(b"the end").await;
    let scripts = touched(&bench, &ran).await;

    let source = include_str!("../src/scripts/mod.rs");
    assert_eq!(scripts.len(), source.matches("script!(\n    ///").count(), "scripts that ran");
    let declared = ran.iter().filter(|ran| ran.words[0].starts_with(b"EVAL")).count();
    let inner = ran.iter().filter(|ran| ran.by_script).count();
    assert!(declared > 100 && inner > 500, "{declared} calls, {inner} commands in them");
}
