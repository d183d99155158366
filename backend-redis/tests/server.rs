//! What the server may do to us that no conformance case can do to every broker.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use polyqueue::{
    ConnectOptions, DeadBody, DeadFilter, DeadReason, Dedup, Error, Message, Overflow, Page, Pattern,
    Priority, Purge, QueueSpec, RoutingKey, Settled, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RedisBroker};
use polyqueue_redis::PROVIDER;
use support::{Bench, QUEUE, receive, settle};
use tokio::time::Instant;

const LONG: u64 = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    let flush = || bench.command::<()>(&["SCRIPT", "FLUSH"]);
    for n in 0..5 {
        flush().await;
        bench.publish(Message::new(format!("{n}"))).await;
        flush().await;
        let delivery = receive(&*consumer, LONG).await.unwrap();
        assert_eq!(delivery.message.payload(), &format!("{n}"));
        flush().await;
        consumer.extend(std::slice::from_ref(&delivery.receipt)).await.unwrap()[0].as_ref().unwrap();
        flush().await;
        assert_eq!(settle(&*consumer, &delivery, Verdict::reject("no")).await, Settled::Died);
        flush().await;
        let page = bench.queue.dead_letters(&QUEUE, &DeadFilter::all(), Page::first(10)).await.unwrap();
        flush().await;
        assert_eq!(bench.queue.redrive(&QUEUE, &[page.dead_letters[0].id.clone()]).await.unwrap(), [true]);
        flush().await;
        assert_eq!(bench.stats().await.ready, 1);
        flush().await;
        assert_eq!(bench.queue.purge(&QUEUE, Purge::Waiting).await.unwrap(), 1);
    }
    flush().await;
    bench.queue.delete(&QUEUE).await.unwrap();
}

/// Calls of our scripts, as the server counted them.
async fn calls(bench: &Bench) -> u64 {
    let info: String = bench.command(&["INFO", "commandstats"]).await;
    let count = |line: &str| line.split_once("calls=")?.1.split_once(',')?.0.parse::<u64>().ok();
    let ours = info.lines().filter(|line| line.starts_with("cmdstat_eval"));
    ours.filter_map(count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_waiting_consumers_ask_once_in_five_seconds() {
    let bench = Bench::start().await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let consumer = bench.consumer().await;
        waiting.spawn(async move { consumer.receive(1, Duration::from_secs(60)).await.unwrap().len() });
    }
    while bench.command::<u64>(&["ZCARD", "polyqueue:{q}:w"]).await < 100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (before, start) = (calls(&bench).await, Instant::now());
    tokio::time::sleep(Duration::from_secs(11)).await;
    let allowed = 100.0 * (start.elapsed().as_secs_f64() / 5.0).ceil();
    let made = calls(&bench).await - before;
    assert!(made as f64 <= allowed, "{made} calls, allowed {allowed}");

    let mut late = Vec::new();
    for n in 0..100 {
        let published = Instant::now();
        bench.publish(Message::new(n.to_string())).await;
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), 1);
        late.push(published.elapsed());
    }
    late.sort();
    assert!(late[50] < Duration::from_millis(200), "{:?}", late[50]);
    eprintln!("publish to waiting consumer: p50 {:?}, p99 {:?}; {made} idle calls", late[50], late[98]);
}

#[tokio::test]
async fn a_foreign_entry_is_seen_by_one_who_waits_already() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    let waits = tokio::spawn(async move {
        let delivery = receive(&*consumer, 20_000).await.unwrap();
        (delivery, consumer)
    });
    while bench.command::<u64>(&["ZCARD", "polyqueue:{q}:w"]).await < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let id: String =
        bench.command(&["XADD", "polyqueue:{q}:s:9", "*", "data", "plain", "theirs", "kept"]).await;
    let (delivery, consumer) = waits.await.unwrap();
    let message = &delivery.message;
    assert_eq!((message.id().as_str(), message.kind(), message.priority().get()), (&*id, "", 9));
    assert_eq!(message.published_at(), None);

    // Its id and what we do not know of it survive a retry and a release.
    settle(&*consumer, &delivery, Verdict::retry(Duration::from_millis(5), "once")).await;
    let again = receive(&*consumer, LONG).await.unwrap();
    assert_eq!((again.message.id().as_str(), again.attempt), (&*id, 2));
    settle(&*consumer, &again, Verdict::Release { after: Duration::ZERO }).await;
    let entry: Vec<(String, Vec<String>)> = bench.command(&["XRANGE", "polyqueue:{q}:s:9", "-", "+"]).await;
    let field = |name: &str| entry[0].1.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
    assert_eq!(field("theirs").as_deref(), Some("kept"));
    assert_eq!(field("id"), Some(id));
    assert_eq!(field("a").as_deref(), Some("1"));
}

#[tokio::test]
async fn garbage_is_buried_and_the_next_message_flows() {
    let bench = Bench::start().await;
    let wide: Vec<String> = (0..5000).map(|n| format!("f{n}")).collect();
    let mut words = vec!["XADD", "polyqueue:{q}:s:10", "*"];
    words.extend(wide.iter().map(String::as_str));
    bench.command::<String>(&words).await;
    for fields in [
        &["body", "no data"][..],
        &["data", "future", "v", "2.0"],
        &["data", "bad attempts", "a", "inf"],
        &["data", "bad maximum", "x", "1e999"],
        &["data", "bad headers", "h", "{\"a\":[]}"],
        &["data", "bad time", "t", "9e99"],
    ] {
        let words = [&["XADD", "polyqueue:{q}:s:10", "*"], fields].concat();
        bench.command::<String>(&words).await;
    }
    bench.command::<u64>(&["HSET", "polyqueue:{q}:b", "x", "\u{1}garbage"]).await;
    bench.command::<u64>(&["ZADD", "polyqueue:{q}:d", "1", "x"]).await;
    bench.command::<u64>(&["ZADD", "polyqueue:{q}:l", "1", "not a lease"]).await;
    bench.command::<u64>(&["ZADD", "polyqueue:{q}:w", "1", "nobody"]).await;
    bench.publish(Message::new("good").with_priority(Priority::LOWEST)).await;

    let consumer = bench.consumer().await;
    let delivery = receive(&*consumer, LONG).await.unwrap();
    assert_eq!(delivery.message.payload(), "good");
    let page = bench.queue.dead_letters(&QUEUE, &DeadFilter::all(), Page::first(100)).await.unwrap();
    let raw: Vec<_> = page
        .dead_letters
        .iter()
        .map(|letter| {
            assert_eq!(letter.reason, DeadReason::Undecodable);
            let DeadBody::Raw(raw) = &letter.body else { panic!("{letter:?}") };
            String::from_utf8_lossy(raw).into_owned()
        })
        .collect();
    assert_eq!(raw.len(), 8);
    for expected in
        ["no data", "future", "bad attempts", "bad maximum", "bad headers", "bad time", "\u{1}garbage"]
    {
        assert!(raw.iter().any(|raw| raw == expected), "{expected}: {raw:?}");
    }
    let stats = bench.stats().await;
    assert_eq!((stats.ready, stats.in_flight, stats.delayed, stats.dead), (0, Some(1), Some(0), 8));
    let ids: Vec<_> = page.dead_letters.iter().map(|letter| letter.id.clone()).collect();
    assert!(bench.queue.redrive(&QUEUE, &ids).await.unwrap().into_iter().all(|there| there));
}

#[tokio::test]
async fn a_lost_group_is_made_again() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    bench.command::<u64>(&["XGROUP", "DESTROY", "polyqueue:{q}:s:5", "g"]).await;
    bench.publish(Message::new("x")).await;
    assert!(receive(&*consumer, LONG).await.is_some());
    bench.command::<u64>(&["DEL", "polyqueue:{q}:s:5"]).await;
    assert!(receive(&*consumer, 0).await.is_none());
}

#[tokio::test]
async fn a_full_server_refuses_publishes_and_can_be_drained() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    for _ in 0..20 {
        bench.publish(Message::new(vec![7; 100_000])).await;
    }
    bench.command::<()>(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let answers = bench.queue.publish(&QUEUE.into(), vec![Message::new(vec![7; 100_000])]).await.unwrap();
    let error = answers[0].as_ref().unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.to_string().contains("OOM"), "{error}");
    assert_eq!(error.certainty(), polyqueue::Certainty::Definite);
    for n in 0..20 {
        let delivery = receive(&*consumer, LONG).await.unwrap();
        let verdict = if n % 2 == 0 { Verdict::Ack } else { Verdict::reject("no room") };
        assert!(matches!(settle(&*consumer, &delivery, verdict).await, Settled::Applied | Settled::Died));
    }
    assert_eq!(bench.stats().await.dead, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_handles_survive_a_restart() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    let waits = tokio::spawn(async move { (receive(&*consumer, 60_000).await, consumer) });
    while bench.command::<u64>(&["ZCARD", "polyqueue:{q}:w"]).await < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for round in 0..2 {
        match round {
            0 => bench.broker.restart_gracefully().await.unwrap(),
            _ => {
                bench.broker.kill9().await.unwrap();
                assert!(!bench.queue.health().await.healthy);
                bench.broker.start_again().await.unwrap();
            }
        }
        let healed = Instant::now();
        while !bench.queue.health().await.healthy {
            assert!(healed.elapsed() < Duration::from_secs(5));
        }
    }
    bench.publish(Message::new("after")).await;
    let (delivery, consumer) = waits.await.unwrap();
    assert_eq!(delivery.as_ref().unwrap().message.payload(), "after");
    assert_eq!(settle(&*consumer, &delivery.unwrap(), Verdict::Ack).await, Settled::Applied);
}

#[tokio::test]
async fn a_server_that_cannot_keep_our_promises_is_refused() {
    let broker = RedisBroker::start().await.unwrap();
    broker.command("CONFIG SET maxmemory-policy allkeys-lru").await.unwrap();
    broker.command("CONFIG SET requirepass hunter2").await.unwrap();
    let url = |user: &str, query: &str| format!("redis://{user}127.0.0.1:{}{query}", broker.port());
    let connect = |url: String| PROVIDER.connect(ConnectOptions::new(url));
    for wrong in ["", ":wrong@"] {
        let error = connect(url(wrong, "")).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        assert!(!error.to_string().contains(":wrong"), "{error}");
    }
    let error = connect(url(":hunter2@", "")).await.unwrap_err();
    assert!(
        matches!(error, Error::Unsupported { .. }) && error.to_string().contains("allkeys-lru"),
        "{error}"
    );
    connect(url(":hunter2@", "?allow_eviction=true")).await.unwrap();
}

#[tokio::test]
async fn a_user_with_the_documented_rights_can_do_everything_in_its_namespace_only() {
    let broker = RedisBroker::start().await.unwrap();
    let rights = "~polyqueue:* &polyqueue:* +@read +@write +@pubsub +@scripting +@connection +info +time";
    broker.command(&format!("ACL SETUSER app on >secret {rights}")).await.unwrap();
    let options = ConnectOptions::new(format!("redis://app:secret@127.0.0.1:{}", broker.port()));
    let queue = PROVIDER.connect(options.clone()).await.unwrap();
    let spec =
        QueueSpec::new(QUEUE).bind(Pattern::new("t").unwrap()).bound(9, Overflow::Block).dead_max_len(9);
    queue.declare(&spec.dedup(Dedup::window(MINUTE))).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(QUEUE)).await.unwrap();
    let to = RoutingKey::new("t").unwrap().into();
    let (delivery, published) = tokio::join!(
        receive(&*consumer, LONG),
        queue.publish(&to, vec![Message::new("x").with_dedup_key("k"), Message::new("y").with_delay(MINUTE)])
    );
    assert!(published.unwrap().iter().all(Result::is_ok));
    assert_eq!(settle(&*consumer, &delivery.unwrap(), Verdict::reject("no")).await, Settled::Died);
    let page = queue.dead_letters(&QUEUE, &DeadFilter::all(), Page::first(10)).await.unwrap();
    assert_eq!(queue.redrive(&QUEUE, &[page.dead_letters[0].id.clone()]).await.unwrap(), [true]);
    assert_eq!(queue.purge(&QUEUE, Purge::Waiting).await.unwrap(), 2);
    assert_eq!(queue.queues().await.unwrap().len(), 1);
    let inbox = queue.inbox().await.unwrap();
    let reply = queue.publish(&inbox.address().into(), vec![Message::new("y").with_ttl(MINUTE)]).await;
    assert!(matches!(reply, Err(Error::Invalid { .. })));
    queue.publish(&inbox.address().into(), vec![Message::new("z")]).await.unwrap();
    assert_eq!(inbox.receive(MINUTE).await.unwrap().len(), 1);
    drop(inbox);
    queue.unbind(&QUEUE, &Pattern::new("t").unwrap()).await.unwrap();
    assert!(queue.health().await.healthy);
    queue.delete(&QUEUE).await.unwrap();

    let error = PROVIDER.connect(options.namespace("other")).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_be() {
    let broker = RedisBroker::start().await.unwrap();
    broker.stop_gracefully().await.unwrap();
    let url = format!("redis://:hunter2@127.0.0.1:{}", broker.port());
    let error = PROVIDER.connect(ConnectOptions::new(url)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(error.certainty(), polyqueue::Certainty::Definite);
    assert!(error.to_string().contains(&broker.port().to_string()) && !error.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_bounded_consumer_holds_no_more_than_its_prefetch() {
    let bench = Bench::start().await;
    for n in 0..5 {
        bench.publish(Message::new(n.to_string())).await;
    }
    let consumer = bench.subscribe(Subscription::new(QUEUE).prefetch(2)).await;
    let held = consumer.receive(10, Duration::ZERO).await.unwrap();
    assert_eq!(held.len(), 2);
    assert!(consumer.receive(10, Duration::ZERO).await.unwrap().is_empty());
    let (more, settled) = tokio::join!(
        consumer.receive(10, Duration::from_millis(LONG)),
        settle(&*consumer, &held[0], Verdict::Ack)
    );
    assert_eq!((more.unwrap().len(), settled), (1, Settled::Applied));
}

#[tokio::test]
async fn the_second_of_two_waiting_receives_is_woken_as_soon_as_the_first() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    for wait in [0, 30] {
        let both = async { tokio::join!(receive(&*consumer, LONG), receive(&*consumer, LONG)) };
        let publishes = async {
            for text in ["first", "second"] {
                bench.publish(Message::new(text)).await;
                // Long enough that the first message is handed out alone, at least once.
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        };
        let start = Instant::now();
        let ((first, second), ()) = tokio::join!(both, publishes);
        assert_eq!(first.unwrap().message.payload(), "first");
        assert_eq!(second.unwrap().message.payload(), "second");
        assert!(start.elapsed() < Duration::from_secs(4), "the safety poll alone woke the second");
    }
}

#[tokio::test]
async fn many_large_messages_fit_into_one_receive() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    for _ in 0..60 {
        bench.publish(Message::new(vec![7; 1024 * 1024])).await;
    }
    let (mut got, start) = (0, Instant::now());
    while got < 60 && start.elapsed() < MINUTE {
        for delivery in consumer.receive(100, Duration::from_millis(LONG)).await.unwrap() {
            got += 1;
            assert_eq!(
                (delivery.attempt, settle(&*consumer, &delivery, Verdict::Ack).await),
                (1, Settled::Applied)
            );
        }
    }
    assert_eq!(got, 60);
}

#[tokio::test]
async fn deleting_leaves_no_key() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    bench.publish(Message::new("delayed").with_delay(Duration::from_millis(50))).await;
    bench.publish(Message::new("leased")).await;
    let leased = receive(&*consumer, LONG).await.unwrap();
    bench.publish(Message::new("dead")).await;
    let dead = receive(&*consumer, LONG).await.unwrap();
    settle(&*consumer, &dead, Verdict::reject("")).await;
    bench.queue.delete(&QUEUE).await.unwrap();
    assert_eq!(bench.command::<u64>(&["DBSIZE"]).await, 0);
    assert!(matches!(bench.queue.stats(&QUEUE).await, Err(Error::NotFound(_))));
    assert!(matches!(consumer.receive(1, Duration::ZERO).await, Err(Error::NotFound(_))));
    assert_ne!(settle(&*consumer, &leased, Verdict::retry(Duration::ZERO, "")).await, Settled::Applied);
    let refused = bench.queue.publish(&QUEUE.into(), vec![Message::new("ghost")]).await;
    assert!(matches!(refused, Err(Error::NotFound(_))));
    assert_eq!(bench.command::<HashMap<String, String>>(&["HGETALL", "polyqueue:catalogue"]).await.len(), 0);
    assert_eq!(bench.command::<u64>(&["DBSIZE"]).await, 0);
}
