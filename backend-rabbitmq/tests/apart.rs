//! What one call waits for holds up no other, on a private node.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use polyqueue::{
    ConnectOptions, Dedup, Error, Message, Overflow, Pattern, Queue, QueueExt, QueueName, QueueSpec,
    RoutingKey, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::{sleep, timeout};

/// Far less than what the others wait for, with room for a machine that does something else.
const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(20);

async fn connect(node: &RabbitBroker, namespace: &str) -> Arc<dyn Queue> {
    let options = ConnectOptions::new(node.url()).namespace(namespace.to_owned()).deadline(LONG);
    PROVIDER.connect(options).await.unwrap()
}

async fn stranger(node: &RabbitBroker) -> (Connection, Channel) {
    let connection = Connection::connect(&node.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// The only consumer, until it is dropped. It takes one.
async fn occupy(channel: &Channel, object: &str) -> Consumer {
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let alone = BasicConsumeOptions { exclusive: true, ..Default::default() };
    channel.basic_consume(object.into(), "".into(), alone, FieldTable::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_waits_for_holds_up_nobody_else() {
    let node = RabbitBroker::start().await.unwrap();
    tokio::join!(
        a_queue_with_room_waits_for_none_that_is_full(&node),
        a_key_that_somebody_holds_is_one_key(&node),
        deaths_wait_for_no_walk(&node),
        a_queue_that_answers_nobody_is_one_queue(&node),
    );
}

async fn a_queue_with_room_waits_for_none_that_is_full(node: &RabbitBroker) {
    let queue = connect(node, "room").await;
    let [full, free] = ["full", "free"].map(|name| QueueName::new(name).unwrap());
    for (name, bound) in [(&full, 1), (&free, 10)] {
        let spec = QueueSpec::new(name.clone()).bound(bound, Overflow::Block);
        queue.declare(&spec.bind(Pattern::new("t").unwrap())).await.unwrap();
    }
    queue.publish_one(&full, Message::new("first")).await.unwrap();
    let both = tokio::spawn({
        let queue = queue.clone();
        async move {
            let topic = RoutingKey::new("t").unwrap();
            queue.publish(&topic.into(), vec![Message::new("a"), Message::new("b")]).await
        }
    });
    sleep(Duration::from_millis(500)).await;
    for _ in 0..3 {
        timeout(SOON, queue.publish_one(&free, Message::new("x"))).await.unwrap().unwrap();
    }
    assert!(!both.is_finished());
    // And it goes on when there is room, one after the other.
    let consumer = queue.subscribe(&Subscription::new(full.clone())).await.unwrap();
    for expected in ["first", "a", "b"] {
        let came = consumer.receive(1, SOON).await.unwrap().remove(0);
        assert_eq!(came.message.payload(), expected.as_bytes());
        consumer.settle(&[(came.receipt, Verdict::Ack)]).await.unwrap().remove(0).unwrap();
    }
    assert!(both.await.unwrap().unwrap().iter().all(Result::is_ok));
    assert_eq!(queue.stats(&free).await.unwrap().ready, 5);
}

async fn a_key_that_somebody_holds_is_one_key(node: &RabbitBroker) {
    let queue = connect(node, "keys").await;
    let keyed = QueueName::new("keyed").unwrap();
    queue.declare(&QueueSpec::new(keyed.clone()).dedup(Dedup::window(LONG))).await.unwrap();
    let publish = |key: String| {
        let message = Message::new("x").with_dedup_key(key);
        let (queue, keyed) = (queue.clone(), keyed.clone());
        async move { queue.publish_one(&keyed, message).await }
    };
    publish("held".into()).await.unwrap();
    // As another client that has died in the middle of a look, as far as the broker knows.
    let names = "[binary_to_list(N) || Q <- rabbit_amqqueue:list(<<\"/\">>), {resource, _, _, N} <- [amqqueue:get_name(Q)], \
                 binary:longest_common_prefix([N, <<\"keys.dedup.\">>]) =:= 11, binary:last(N) =:= $d]";
    let marker = node.eval(names).await.unwrap();
    let (connection, channel) = stranger(node).await;
    let _only = occupy(&channel, marker.trim().trim_matches(['[', ']', '"'])).await;
    let held: Vec<_> = (0..20).map(|_| tokio::spawn(publish("held".into()))).collect();
    sleep(Duration::from_millis(200)).await;
    let others = join_all((0..64).map(|nth| publish(format!("other-{nth}"))));
    for stored in timeout(SOON * 2, others).await.expect("others wait for a key that is not theirs") {
        assert_eq!(stored.unwrap().duplicate_of, None);
    }
    assert!(held.iter().all(|held| !held.is_finished()));
    connection.close(200, "".into()).await.unwrap();
    for held in held {
        assert!(held.await.unwrap().unwrap().duplicate_of.is_some());
    }
}

async fn deaths_wait_for_no_walk(node: &RabbitBroker) {
    let queue = connect(node, "deaths").await;
    let kept = QueueName::new("kept").unwrap();
    queue.declare(&QueueSpec::new(kept.clone()).dead_max_len(2)).await.unwrap();
    for nth in 0..12 {
        queue.publish_one(&kept, Message::new(nth.to_string())).await.unwrap();
    }
    let consumer = queue.subscribe(&Subscription::new(kept.clone())).await.unwrap();
    let bury = async || {
        let came = consumer.receive(1, SOON).await.unwrap().remove(0);
        consumer.settle(&[(came.receipt, Verdict::reject("no"))]).await.unwrap().remove(0).unwrap();
    };
    bury().await;
    let (connection, channel) = stranger(node).await;
    let _only = occupy(&channel, "deaths.dead.kept").await;
    // Each would wait for a second.
    timeout(SOON, async {
        for _ in 0..10 {
            bury().await
        }
    })
    .await
    .unwrap();
    connection.close(200, "".into()).await.unwrap();
    bury().await;
    timeout(LONG, async {
        while queue.stats(&kept).await.unwrap().dead > 2 {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("what is too much was not dropped");
}

async fn a_queue_that_answers_nobody_is_one_queue(node: &RabbitBroker) {
    let queue = connect(node, "stalled").await;
    let [stalled, other] = ["stalled", "other"].map(|name| QueueName::new(name).unwrap());
    for name in [&stalled, &other] {
        queue.declare(&name.clone().into()).await.unwrap();
    }
    let process =
        "{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"stalled.q.stalled\">>))";
    node.eval(&format!("{process}, sys:suspend(amqqueue:get_pid(Q))")).await.unwrap();
    let asked = tokio::spawn({
        let (queue, stalled) = (queue.clone(), stalled.clone());
        async move { queue.stats(&stalled).await }
    });
    sleep(Duration::from_millis(300)).await;
    for _ in 0..5 {
        timeout(SOON, queue.stats(&other)).await.expect("waits for another queue").unwrap();
    }
    assert!(!asked.is_finished());
    node.eval(&format!("{process}, sys:resume(amqqueue:get_pid(Q))")).await.unwrap();
    let answer = asked.await.unwrap();
    assert!(answer.is_ok() || matches!(answer, Err(Error::Timeout { .. })), "{answer:?}");
}
