//! Messages that the client library cannot read, on a private node.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use polyqueue::{ConnectOptions, DeadFilter, DeadReason, Message, Page, QueueName, Subscription, Verdict};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::{Instant, sleep};

const POISONED: QueueName = QueueName::from_static("poisoned");
const OTHER: QueueName = QueueName::from_static("other");
/// What no text can be, and what lies so deep that reading it took more than a stack.
const POISON: [&str; 6] = [
    "[{type, <<255>>}]",
    "[{correlation_id, <<\"a\", 195>>}]",
    "[{message_id, <<254, 255>>}]",
    "[{headers, [{<<\"k\", 255>>, longstr, <<\"v\">>}]}]",
    "[{headers, [{<<\"k\">>, table, [{<<255>>, bool, true}]}]}]",
    "[{headers, lists:foldl(fun(_, Inner) -> [{<<\"k\">>, table, Inner}] end, [], lists:seq(1, 5000))}]",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_set_aside_and_what_follows_flows() {
    let node = RabbitBroker::start().await.unwrap();
    let options = ConnectOptions::new(node.url()).namespace("poison");
    let queue = PROVIDER.connect(options).await.unwrap();
    let (mut consumers, mut came) = (Vec::new(), Vec::new());
    for name in [POISONED, OTHER] {
        queue.declare(&name.clone().into()).await.unwrap();
        consumers.push(queue.subscribe(&Subscription::new(name)).await.unwrap());
    }
    for properties in POISON {
        let publish = format!(
            "rabbit_basic:publish(rabbit_misc:r(<<\"/\">>, exchange, <<>>), <<\"poison.q.poisoned\">>, \
             rabbit_basic:properties({properties}), <<\"raw\", 255>>)"
        );
        let said = node.eval(&publish).await.unwrap();
        assert!(said.contains("ok"), "{said}");
    }
    let begun = Instant::now();
    for (name, consumer) in [POISONED, OTHER].into_iter().zip(&consumers) {
        let sent = queue.publish(&(&name).into(), vec![Message::new("next")]).await.unwrap();
        assert!(sent[0].is_ok());
        // What is no text deeper inside, or lies too deep, is a message all the same: nothing of ours stands there.
        let messages = if name == POISONED { 3 } else { 1 };
        for _ in 0..messages {
            let delivery = consumer.receive(1, Duration::from_secs(10)).await.unwrap().remove(0);
            let verdict = [(delivery.receipt.clone(), Verdict::Ack)];
            consumer.settle(&verdict).await.unwrap()[0].as_ref().unwrap();
            came.push(delivery.message.payload().to_vec());
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    came.sort();
    assert_eq!(came, [&b"next"[..], b"next", b"raw\xff", b"raw\xff"]);
    let mut dead = Vec::new();
    for _ in 0..100 {
        dead = queue.dead_letters(&POISONED, &DeadFilter::all(), Page::first(10)).await.unwrap().dead_letters;
        if dead.len() == POISON.len() - 2 {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert!(dead.iter().all(|letter| letter.reason == DeadReason::Undecodable), "{dead:?}");
    assert!(dead.iter().all(|letter| letter.error.contains("UTF-8")), "{dead:?}");
    assert_eq!(dead.len(), POISON.len() - 2, "{dead:?}");
}
