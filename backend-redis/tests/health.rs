//! A server that answers and does nothing of what is asked: health is red and says why, and events tell that it takes no messages.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Error, Event, Events, Health, Message, Queue, Verdict};
use support::{Bench, QUEUE};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
/// It is promised within 2 s of a look a second; a busy machine is given more.
const TOLD_WITHIN: Duration = Duration::from_secs(4);
const STAYS: Duration = Duration::from_secs(4);

/// What is done to a server, what undoes it, and what health says meanwhile.
struct Ill {
    done: &'static [&'static str],
    undone: &'static [&'static str],
    says: &'static [&'static str],
}

const FULL: Ill = Ill {
    done: &["CONFIG", "SET", "maxmemory", "1"],
    undone: &["CONFIG", "SET", "maxmemory", "0"],
    says: &["blocks publishes", "maxmemory"],
};
const ALONE: Ill = Ill {
    done: &["CONFIG", "SET", "min-replicas-to-write", "1"],
    undone: &["CONFIG", "SET", "min-replicas-to-write", "0"],
    says: &["blocks publishes", "replicas"],
};
const FORBIDDEN: Ill = Ill {
    done: &["ACL", "SETUSER", "default", "-xadd"],
    undone: &["ACL", "SETUSER", "default", "+xadd"],
    says: &["may not run XADD"],
};
/// Something else stands where messages are to go.
const OCCUPIED: Ill = Ill {
    done: &["SET", "polyqueue:{q}:s:5", "no stream"],
    undone: &["DEL", "polyqueue:{q}:s:5"],
    says: &["on polyqueue:{q} fails", "WRONGTYPE"],
};

/// Publishes and consumes all the time, whatever comes of it.
fn work(queue: &Arc<dyn Queue>) -> JoinHandle<()> {
    let queue = queue.clone();
    tokio::spawn(async move {
        let consumer = queue.subscribe(&polyqueue::Subscription::new(QUEUE)).await.unwrap();
        loop {
            let _ = queue.publish(&QUEUE.into(), vec![Message::new("work")]).await;
            for delivery in consumer.receive(5, SECOND / 5).await.unwrap_or_default() {
                let _ = consumer.settle(&[(delivery.receipt.clone(), Verdict::Ack)]).await;
            }
            sleep(SECOND / 20).await;
        }
    })
}

async fn look(queue: &Arc<dyn Queue>) -> Health {
    let began = Instant::now();
    let health = queue.health().await;
    assert!(began.elapsed() < 2 * SECOND, "health took {:?}", began.elapsed());
    health
}

async fn becomes(queue: &Arc<dyn Queue>, healthy: bool) -> Health {
    let began = Instant::now();
    loop {
        let health = look(queue).await;
        if health.healthy == healthy {
            return health;
        }
        assert!(began.elapsed() < TOLD_WITHIN, "{health:?}");
        sleep(SECOND / 10).await;
    }
}

/// Red soon and for as long as it lasts, by the right name, and green soon.
async fn is_seen(bench: &Bench, queue: &Arc<dyn Queue>, ill: &Ill) {
    bench.command::<()>(ill.done).await;
    let mut health = becomes(queue, false).await;
    let began = Instant::now();
    while began.elapsed() < STAYS {
        assert!(!health.healthy, "{:?}: green after {:?}", ill.done, began.elapsed());
        for says in ill.says {
            assert!(health.detail.contains(says), "{:?}: {}", ill.done, health.detail);
        }
        sleep(SECOND / 2).await;
        health = look(queue).await;
    }
    bench.command::<()>(ill.undone).await;
    becomes(queue, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_stops_the_work_is_named_while_it_lasts() {
    let bench = Bench::start().await;
    let queue = bench.another(5 * SECOND).await;
    let working = work(&queue);
    becomes(&queue, true).await;
    for ill in [FULL, ALONE, FORBIDDEN, OCCUPIED] {
        is_seen(&bench, &queue, &ill).await;
    }
    working.abort();
}

async fn next_block(events: &mut Events) -> Event {
    let told = async {
        loop {
            let event = events.next().await.unwrap();
            if matches!(event, Event::Blocked { .. } | Event::Unblocked) {
                return event;
            }
        }
    };
    timeout(TOLD_WITHIN, told).await.expect("nothing was told")
}

/// Nobody asks for the health.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_no_messages_are_taken_is_told_and_that_they_are_again() {
    let bench = Bench::start().await;
    let mut events = bench.queue.events();
    for ill in [FULL, ALONE] {
        bench.command::<()>(ill.done).await;
        let error = bench.send(QUEUE, Message::new("refused")).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        match next_block(&mut events).await {
            Event::Blocked { detail } => assert!(detail.contains(ill.says[1]), "{detail}"),
            other => panic!("{other:?}"),
        }
        bench.command::<()>(ill.undone).await;
        assert_eq!(next_block(&mut events).await, Event::Unblocked);
        bench.send(QUEUE, Message::new("taken")).await.unwrap();
    }
}

/// Whoever only waits, and publishes nothing, is blocked, too.
#[tokio::test]
async fn health_sees_without_traffic_what_the_server_refuses() {
    let bench = Bench::start().await;
    for ill in [FULL, ALONE, FORBIDDEN] {
        is_seen(&bench, &bench.queue, &ill).await;
    }
}

#[tokio::test]
async fn what_is_denied_within_a_script_is_denied_by_its_name() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    bench.command::<()>(&["ACL", "SETUSER", "default", "-xadd", "-xreadgroup"]).await;
    let published = bench.send(QUEUE, Message::new("denied")).await.unwrap_err();
    let received = consumer.receive(1, SECOND).await.unwrap_err();
    for (error, command) in [(published, "XADD"), (received, "XREADGROUP")] {
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains(command), "{error}");
    }
}
