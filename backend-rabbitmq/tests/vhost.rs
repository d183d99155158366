//! A virtual host whose queues are quorum queues unless they say otherwise, on a private node.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use polyqueue::{
    ConnectOptions, DeadFilter, Dedup, Message, Page, QueueName, QueueSpec, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;

const JOBS: QueueName = QueueName::from_static("jobs");
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn another_type_by_default_changes_nothing() {
    let node = RabbitBroker::start().await.unwrap();
    let made = "rabbit_vhost:add(<<\"other\">>, #{default_queue_type => <<\"quorum\">>}, <<\"t\">>), \
                rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"other\">>, <<\".*\">>, <<\".*\">>, \
                <<\".*\">>, <<\"t\">>)";
    node.eval(made).await.unwrap();
    let port = node.url().rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    let options =
        ConnectOptions::new(format!("amqp://guest:guest@127.0.0.1:{port}/other")).namespace("vhost");
    let queue = PROVIDER.connect(options).await.unwrap();
    let spec = QueueSpec::new(JOBS).dedup(Dedup::window(Duration::from_secs(60)));
    queue.declare(&spec).await.unwrap();
    queue.declare(&spec).await.unwrap();
    let _inbox = queue.inbox().await.unwrap();
    let messages = vec![
        Message::new("now").with_dedup_key("k"),
        Message::new("later").with_delay(Duration::from_millis(100)),
        Message::new("refused"),
    ];
    for stored in queue.publish(&(&JOBS).into(), messages).await.unwrap() {
        stored.unwrap();
    }
    let consumer = queue.subscribe(&Subscription::new(JOBS)).await.unwrap();
    for _ in 0..3 {
        let came = consumer.receive(1, SOON).await.unwrap().remove(0);
        let refused = came.message.payload().as_ref() == b"refused";
        let verdict = if refused { Verdict::reject("no") } else { Verdict::Ack };
        consumer.settle(&[(came.receipt, verdict)]).await.unwrap()[0].as_ref().unwrap();
    }
    let dead = queue.dead_letters(&JOBS, &DeadFilter::all(), Page::first(10)).await.unwrap();
    assert_eq!(dead.dead_letters.len(), 1);
    let types = "lists:usort([rabbit_amqqueue:info(Q, [type]) || Q <- rabbit_amqqueue:list(<<\"other\">>)])";
    let types = node.eval(types).await.unwrap();
    assert_eq!(types, "[[{type,classic}],[{type,stream}]]");
}
