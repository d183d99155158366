//! A lone message goes to a consumer that waits without being asked for, and never past what comes before it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use polyqueue::{Consumer, Delivery, Message, Priority, Result, Settled, Subscription, Verdict};
use support::{Bench, QUEUE, receive, settle};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const LONG: u64 = 10_000;
const LEASE: Duration = Duration::from_secs(30);

fn was_given(delivery: &Delivery) -> bool {
    delivery.receipt.text().is_some_and(|text| text.contains(".given:"))
}

/// A receive that publishers know of.
async fn waiting(bench: &Bench, consumer: &Arc<dyn Consumer>) -> JoinHandle<Result<Vec<Delivery>>> {
    let known: usize = bench.command(&["ZCARD", "polyqueue:{q}:w"]).await;
    let consumer = consumer.clone();
    let receiving = tokio::spawn(async move { consumer.receive(1, Duration::from_millis(LONG)).await });
    while bench.command::<usize>(&["ZCARD", "polyqueue:{q}:w"]).await == known {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    receiving
}

/// What a waiting consumer gets when `publish` is done, acknowledged.
async fn got(bench: &Bench, consumer: &Arc<dyn Consumer>, publish: impl AsyncFnOnce()) -> Delivery {
    let receiving = waiting(bench, consumer).await;
    publish().await;
    let delivery = receiving.await.unwrap().unwrap().remove(0);
    assert_eq!(settle(&**consumer, &delivery, Verdict::Ack).await, Settled::Applied);
    delivery
}

async fn foreign(bench: &Bench, stream: &str, text: &str) {
    bench.command::<String>(&["XADD", stream, "*", "data", text]).await;
}

#[tokio::test]
async fn it_is_leased_like_any_other() {
    let bench = Bench::start().await;
    let consumer: Arc<dyn Consumer> = bench.subscribe(Subscription::new(QUEUE).lease(LEASE)).await.into();
    let (before, own) = (Instant::now(), NonZeroU32::new(7).unwrap());
    let message = Message::new("now").with_ttl(LEASE).with_max_attempts(own).with_correlation_id("c");
    let delivery = got(&bench, &consumer, async || bench.publish(message).await).await;
    assert!(was_given(&delivery), "{:?}", delivery.receipt);
    assert_eq!((delivery.attempt, delivery.message.payload()), (1, &"now".into()));
    assert_eq!((delivery.message.correlation_id(), delivery.message.ttl()), (Some("c"), Some(LEASE)));
    assert!(
        delivery.receipt.text().is_some_and(|text| text.contains(":7:")),
        "its own maximum: {:?}",
        delivery.receipt
    );
    assert!((before..=Instant::now()).contains(&(delivery.lease_until - LEASE)));
    for key in ["polyqueue:{q}:l", "polyqueue:{q}:x", "polyqueue:{q}:w"] {
        assert_eq!(bench.command::<usize>(&["ZCARD", key]).await, 0, "{key}");
    }
    assert_eq!(bench.command::<usize>(&["XLEN", "polyqueue:{q}:s:5"]).await, 0);
}

#[tokio::test]
async fn what_was_there_before_it_and_what_is_more_urgent_comes_first() {
    let bench = Bench::start().await;
    let consumer: Arc<dyn Consumer> = bench.consumer().await.into();
    let urgent = Message::new("").with_priority(Priority::new(9).unwrap());
    got(&bench, &consumer, async || bench.publish(urgent).await).await;
    for stream in ["polyqueue:{q}:s:9", "polyqueue:{q}:s:5"] {
        // Whoever writes into a stream himself tells nobody.
        let first = got(&bench, &consumer, async || {
            foreign(&bench, stream, "foreign").await;
            bench.publish(Message::new("ours")).await;
        });
        let (first, second) = (first.await, receive(&*consumer, LONG).await.unwrap());
        assert_eq!([first.message.payload(), second.message.payload()], ["foreign", "ours"], "{stream}");
        assert!(!was_given(&first) && !was_given(&second));
        assert_eq!(settle(&*consumer, &second, Verdict::Ack).await, Settled::Applied);
    }
    assert_eq!((bench.stats().await.ready, bench.stats().await.in_flight), (0, Some(0)));
}

#[tokio::test]
async fn the_dead_get_nothing() {
    let bench = Bench::start().await;
    let now: (u64, u64) = bench.command(&["TIME"]).await;
    let dead = |text: &str| format!("polyqueue:wake:nobody|{text}");
    for (n, who) in ["1|30000|5|me", "2|30000|5|", "3"].into_iter().enumerate() {
        let since = (now.0 * 1000 + n as u64).to_string();
        bench.command::<usize>(&["ZADD", "polyqueue:{q}:w", &since, &dead(who)]).await;
    }
    bench.publish(Message::new("waits")).await;
    assert_eq!((bench.stats().await.ready, bench.stats().await.in_flight), (1, Some(0)));
    let consumer: Arc<dyn Consumer> = bench.consumer().await.into();
    let delivery = receive(&*consumer, 0).await.unwrap();
    assert_eq!((delivery.attempt, was_given(&delivery)), (1, false));
    assert_eq!(settle(&*consumer, &delivery, Verdict::Ack).await, Settled::Applied);
    // Nor one that has not asked for too long: it is woken, and asks.
    let receiving = waiting(&bench, &consumer).await;
    let who: Vec<String> = bench.command(&["ZRANGE", "polyqueue:{q}:w", "0", "0"]).await;
    let long_ago = (now.0 * 1000 - 7000).to_string();
    bench.command::<usize>(&["ZADD", "polyqueue:{q}:w", &long_ago, &who[0]]).await;
    bench.publish(Message::new("fetched")).await;
    assert!(!was_given(&receiving.await.unwrap().unwrap().remove(0)));
}

#[tokio::test]
async fn whoever_says_nonsense_of_himself_loses_nothing_for_others() {
    let bench = Bench::start().await;
    let now: (u64, u64) = bench.command(&["TIME"]).await;
    for nonsense in ["polyqueue:wake:me|1||5|me", "|1|1|1|", "x|1|99999999999999999999|5|me", "no bar"] {
        let since = (now.0 * 1000).to_string();
        bench.command::<usize>(&["ZADD", "polyqueue:{q}:w", &since, nonsense]).await;
        bench.publish(Message::new(nonsense)).await;
        let consumer = bench.consumer().await;
        let delivery = receive(&*consumer, 0).await.expect(nonsense);
        assert_eq!((delivery.message.payload(), delivery.attempt), (&nonsense.into(), 1));
        assert_eq!(settle(&*consumer, &delivery, Verdict::Ack).await, Settled::Applied);
    }
}

#[tokio::test]
async fn what_is_large_or_has_company_is_fetched() {
    let bench = Bench::start().await;
    let consumer: Arc<dyn Consumer> = bench.consumer().await.into();
    let large = got(&bench, &consumer, async || bench.publish(Message::new(vec![b'x'; 17_000])).await).await;
    assert!(!was_given(&large));
    let two = vec![Message::new("1"), Message::new("2").with_priority(Priority::HIGHEST)];
    let first =
        got(&bench, &consumer, async || drop(bench.queue.publish(&QUEUE.into(), two).await.unwrap())).await;
    assert_eq!((first.message.payload(), was_given(&first)), (&"2".into(), false));
}

#[tokio::test]
async fn whoever_has_stopped_waiting_is_given_nothing() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    for _ in 0..20 {
        assert!(receive(&*consumer, 20).await.is_none());
        bench.publish(Message::new("")).await;
        assert_eq!((bench.stats().await.ready, bench.stats().await.in_flight), (1, Some(0)));
        let delivery = receive(&*consumer, LONG).await.unwrap();
        assert_eq!(settle(&*consumer, &delivery, Verdict::Ack).await, Settled::Applied);
    }
}

/// Its task looks again and again while its time ends, as it does when many receive at once: in no moment is it answered while
/// publishers still find it.
#[tokio::test]
async fn whoever_is_told_that_there_is_nothing_is_found_no_more() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    for n in 0..300 {
        let looking = async {
            loop {
                drop(consumer.receive(1, LEASE).now_or_never());
                tokio::task::yield_now().await;
            }
        };
        let received = tokio::select! {
            biased;
            received = consumer.receive(1, Duration::from_millis(3)) => received.unwrap(),
            () = looking => unreachable!("it never ends"),
        };
        assert!(received.is_empty());
        assert_eq!(bench.command::<usize>(&["ZCARD", "polyqueue:{q}:w"]).await, 0, "after {n}");
    }
}

/// Receives end in every moment of a hand-over. What came too late for one is there for the next, in order, and no attempt is
/// burnt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_in_the_moment_of_a_hand_over_loses_nothing() {
    const MESSAGES: usize = 400;
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    let queue = bench.queue.clone();
    let publishing = tokio::spawn(async move {
        for n in 0..MESSAGES {
            tokio::time::sleep(Duration::from_millis(n as u64 % 7)).await;
            queue.publish(&QUEUE.into(), vec![Message::new(n.to_string())]).await.unwrap()[0]
                .as_ref()
                .unwrap();
        }
    });
    let (mut next, mut given, by) = (0, 0, Instant::now() + Duration::from_secs(20));
    while next < MESSAGES && Instant::now() < by {
        for delivery in consumer.receive(10, Duration::from_millis(3)).await.unwrap() {
            assert_eq!((delivery.message.payload(), delivery.attempt), (&next.to_string().into(), 1));
            assert_eq!(settle(&*consumer, &delivery, Verdict::Ack).await, Settled::Applied);
            (next, given) = (next + 1, given + usize::from(was_given(&delivery)));
        }
    }
    publishing.await.unwrap();
    assert_eq!(next, MESSAGES);
    assert!(given > 0, "none was given");
}

/// The same for consumers that are closed, and for handles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_closes_in_the_moment_of_a_hand_over_gives_it_back() {
    let bench = Bench::start().await;
    let subscription = Subscription::new(QUEUE).lease(LEASE);
    let reader = bench.subscribe(subscription.clone()).await;
    for n in 0..100 {
        let handle = bench.another(Duration::from_secs(5)).await;
        let leaving: Arc<dyn Consumer> = handle.subscribe(&subscription).await.unwrap().into();
        let receiving = waiting(&bench, &leaving).await;
        let closing = async {
            tokio::time::sleep(Duration::from_micros(n * 10)).await;
            match n % 2 {
                0 => leaving.close().await.unwrap(),
                _ => handle.close().await.unwrap(),
            }
        };
        tokio::join!(closing, bench.publish(Message::new(n.to_string())));
        let received = receiving.await.unwrap();
        // What came before the close is in hand. A handle that is closed cannot say so any more.
        if let Some(delivery) = received.iter().flatten().next() {
            let settled = leaving.settle(&[(delivery.receipt.clone(), Verdict::Ack)]).await;
            assert_eq!(settled.is_ok(), n % 2 == 0);
            continue;
        }
        let delivery = receive(&*reader, LONG).await.expect("it comes back at once");
        assert_eq!((delivery.message.payload(), delivery.attempt), (&n.to_string().into(), 1));
        assert_eq!(settle(&*reader, &delivery, Verdict::Ack).await, Settled::Applied);
    }
}

/// Whoever does not wait is told of what was given a moment before, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_to_one_who_has_just_left_is_there_for_who_asks_next() {
    let bench = Bench::start().await;
    let consumer: Arc<dyn Consumer> = bench.consumer().await.into();
    for n in 0..300 {
        let receiving = waiting(&bench, &consumer).await;
        receiving.abort();
        assert!(receiving.await.is_err());
        bench.publish(Message::new(n.to_string())).await;
        let delivery = receive(&*consumer, 0).await.unwrap_or_else(|| panic!("{n} is ready"));
        assert_eq!((delivery.message.payload(), delivery.attempt), (&n.to_string().into(), 1));
        assert_eq!(settle(&*consumer, &delivery, Verdict::Ack).await, Settled::Applied);
    }
}

/// Whoever got what it waited for by asking is not given more unasked: it might be what another asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_found_something_himself_waits_no_longer() {
    let bench = Bench::start().await;
    let (finder, other) = (bench.consumer().await, bench.consumer().await);
    for n in 0..50 {
        bench.publish(Message::new("due").with_delay(Duration::from_millis(20))).await;
        let found = finder.receive(2, Duration::from_millis(LONG)).await.unwrap().remove(0);
        assert_eq!(bench.command::<usize>(&["ZCARD", "polyqueue:{q}:w"]).await, 0);
        bench.publish(Message::new(n.to_string())).await;
        let delivery = receive(&*other, 0).await.unwrap_or_else(|| panic!("{n} is ready"));
        assert_eq!(settle(&*finder, &found, Verdict::Ack).await, Settled::Applied);
        assert_eq!(settle(&*other, &delivery, Verdict::Ack).await, Settled::Applied);
    }
}

/// Two receives of one consumer: when the time of one is up, the other is woken as before.
#[tokio::test]
async fn whoever_still_waits_when_another_receive_ends_is_still_known() {
    let bench = Bench::start().await;
    let consumer: Arc<dyn Consumer> = bench.consumer().await.into();
    let receiving = waiting(&bench, &consumer).await;
    assert!(receive(&*consumer, 20).await.is_none());
    let published = Instant::now();
    bench.publish(Message::new("for the one that waits")).await;
    receiving.await.unwrap().unwrap().remove(0);
    assert!(
        published.elapsed() < Duration::from_secs(3),
        "it asked by itself after {:?}",
        published.elapsed()
    );
}
