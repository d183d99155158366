//! A connection on which the server tells nothing any more, or hears nothing, while the other one answers.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use polyqueue::{ConnectOptions, Consumer, Inbox, Message, Queue, Settled, Subscription, Verdict};
use polyqueue_conformance::broker::Broker;
use polyqueue_redis::PROVIDER;
use support::{Bench, QUEUE, receive, settle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Passes all on but what goes one way on connections that have subscribed until now, once it is told to.
struct Muting {
    port: u16,
    muted: Arc<AtomicBool>,
}

/// What is swallowed.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    ToServer,
    ToClient,
}

impl Muting {
    async fn start(to: u16, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, muted) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let flag = muted.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                // A connection made after the muting is heard.
                let mutes = if flag.load(Ordering::Relaxed) { Arc::default() } else { flag.clone() };
                relay(client, server, mutes, way);
            }
        });
        Self { port, muted }
    }
}

fn relay(client: TcpStream, server: TcpStream, mutes: Arc<AtomicBool>, way: Way) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let listens = Arc::new(AtomicBool::new(false));
    let (subscribes, muted) = (listens.clone(), mutes.clone());
    tokio::spawn(async move {
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if bytes[..count].windows(9).any(|word| word == b"SUBSCRIBE") {
                subscribes.store(true, Ordering::Relaxed);
            }
            let is_muted =
                way == Way::ToServer && subscribes.load(Ordering::Relaxed) && muted.load(Ordering::Relaxed);
            if !is_muted && to_server.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let is_muted =
                way == Way::ToClient && listens.load(Ordering::Relaxed) && mutes.load(Ordering::Relaxed);
            if !is_muted && to_client.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_into_the_void_comes_unharmed_and_long_before_its_lease_ends() {
    let bench = Bench::start().await;
    let muting = Muting::start(bench.broker.port(), Way::ToClient).await;
    let url = bench.broker.url().replace(&format!(":{}", bench.broker.port()), &format!(":{}", muting.port));
    let queue = PROVIDER.connect(ConnectOptions::new(url)).await.unwrap();
    let consumer: Arc<dyn Consumer> = queue.subscribe(&Subscription::new(QUEUE)).await.unwrap().into();
    let receiving = {
        let consumer = consumer.clone();
        tokio::spawn(async move { receive(&*consumer, 60_000).await.unwrap() })
    };
    while bench.command::<usize>(&["ZCARD", "polyqueue:{q}:w"]).await == 0 {
        tokio::time::sleep(SECOND / 100).await;
    }
    muting.muted.store(true, Ordering::Relaxed);
    bench.publish(Message::new("given")).await;
    assert_eq!(bench.stats().await.in_flight, Some(1), "it was given");
    let began = Instant::now();
    let delivery = receiving.await.unwrap();
    assert!(began.elapsed() < 20 * SECOND, "{:?}", began.elapsed());
    eprintln!("found after {:?}", began.elapsed());
    assert_eq!((delivery.attempt, delivery.message.payload()), (1, &"given".into()));
    assert_eq!(settle(&*consumer, &delivery, Verdict::Ack).await, Settled::Applied);
    assert!(queue.health().await.healthy);
}

/// An inbox that is told something all the time, over connections whose way to the server can be muted.
struct Told {
    muting: Muting,
    queue: Arc<dyn Queue>,
    inbox: Box<dyn Inbox>,
    /// Tells until it is dropped.
    _telling: JoinSet<()>,
}

impl Told {
    async fn all_the_time(deadline: Duration) -> Self {
        let bench = Bench::start().await;
        let (port, mut telling) = (bench.broker.port(), JoinSet::new());
        let muting = Muting::start(port, Way::ToServer).await;
        let url = bench.broker.url().replace(&format!(":{port}"), &format!(":{}", muting.port));
        let queue = PROVIDER.connect(ConnectOptions::new(url).deadline(deadline)).await.unwrap();
        let inbox = queue.inbox().await.unwrap();
        let address = inbox.address().clone();
        telling.spawn(async move {
            loop {
                let _ = bench.send(address.clone(), Message::new("told")).await;
                tokio::time::sleep(SECOND / 20).await;
            }
        });
        Self { muting, queue, inbox, _telling: telling }
    }
}

/// All the time something is told there: only the answers are missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_server_hears_nothing_and_tells_a_connection_is_made_anew() {
    let Told { muting, queue, inbox, _telling } = Told::all_the_time(5 * SECOND).await;
    assert!(queue.health().await.healthy);
    assert!(!inbox.receive(SECOND).await.unwrap().is_empty());
    muting.muted.store(true, Ordering::Relaxed);
    let health = queue.health().await;
    assert!(!health.healthy && health.detail.contains("the connection that listens"), "{health:?}");
    let began = Instant::now();
    while !queue.health().await.healthy {
        assert!(began.elapsed() < 15 * SECOND, "never made anew");
        assert!(!inbox.receive(SECOND).await.unwrap().is_empty(), "it is told something all the time");
    }
    eprintln!("made anew after {:?}", began.elapsed());
    queue.inbox().await.unwrap();
}

/// Nobody asks for the health: whoever opens an inbox finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_an_inbox_on_a_connection_that_is_not_heard_gets_one_on_another() {
    let Told { muting, queue, inbox: _inbox, _telling } = Told::all_the_time(30 * SECOND).await;
    muting.muted.store(true, Ordering::Relaxed);
    let began = Instant::now();
    queue.inbox().await.unwrap();
    eprintln!("opened after {:?}", began.elapsed());
    assert!(began.elapsed() < 15 * SECOND, "{:?}", began.elapsed());
}
