//! Listings of dead letters whose letters go meanwhile, on a private node.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use polyqueue::{
    ConnectOptions, Cursor, DeadFilter, Error, Message, Page, Queue, QueueName, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;

const DISORDERLY: QueueName = QueueName::from_static("disorderly");
const LONG: QueueName = QueueName::from_static("long");
const STRANGE: QueueName = QueueName::from_static("strange");
const LETTERS: usize = 60;
const SOON: Duration = Duration::from_secs(10);

fn options(node: &RabbitBroker) -> ConnectOptions {
    ConnectOptions::new(node.url()).namespace("dead")
}

async fn handle(node: &RabbitBroker, ahead: TimeDelta) -> Arc<dyn Queue> {
    PROVIDER.connect(options(node).clock_offset(ahead)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_on_a_private_node() {
    let node = RabbitBroker::start().await.unwrap();
    let queue = handle(&node, TimeDelta::zero()).await;
    tokio::join!(
        every_letter_is_shown(&node, &queue),
        what_lies_too_far_behind_is_refused(&node),
        letters_of_strangers_are_listed_once(&node, &queue),
    );
}

/// Two clients bury by clocks that differ, so that times of death run against the order of the letters; whoever lists removes the
/// last letter of each page.
async fn every_letter_is_shown(node: &RabbitBroker, queue: &Arc<dyn Queue>) {
    queue.declare(&DISORDERLY.into()).await.unwrap();
    let messages: Vec<Message> = (0..LETTERS).map(|nth| Message::new(nth.to_string())).collect();
    queue.publish(&(&DISORDERLY).into(), messages).await.unwrap();
    let mut consumers = Vec::new();
    for ahead in [0, 3, -1] {
        let other = handle(node, TimeDelta::seconds(ahead)).await;
        consumers.push(other.subscribe(&Subscription::new(DISORDERLY)).await.unwrap());
    }
    for nth in 0..LETTERS {
        let consumer = &consumers[nth % consumers.len()];
        let came = consumer.receive(1, SOON).await.unwrap().remove(0);
        let verdict = [(came.receipt, Verdict::reject("no"))];
        consumer.settle(&verdict).await.unwrap()[0].as_ref().unwrap();
    }
    let (mut shown, mut after, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let mut page = Page::first(7);
        page.after = after;
        let listed = queue.dead_letters(&DISORDERLY, &DeadFilter::all(), page).await.unwrap();
        shown.extend(listed.dead_letters.iter().map(|letter| letter.id.to_string()));
        pages += 1;
        assert!(pages < 10 * LETTERS, "a listing that never ends");
        let Some(next) = listed.next else { break };
        after = Some(next);
        let last = [listed.dead_letters.last().unwrap().id.clone()];
        assert_eq!(queue.discard(&DISORDERLY, &last).await.unwrap(), [true]);
    }
    assert_eq!(shown.len(), LETTERS);
}

async fn what_lies_too_far_behind_is_refused(node: &RabbitBroker) {
    // A node that was given so many at once without flow control answers nobody for up to ten seconds.
    let patient = options(node).deadline(Duration::from_secs(60));
    let queue = PROVIDER.connect(patient).await.unwrap();
    queue.declare(&LONG.into()).await.unwrap();
    bury_raw(node, "long", "<<\"raw\">>", 100_100).await;
    let mut page = Page::first(1);
    page.after = Some(Cursor::new("100050:50:0:0:gone".to_owned()));
    let refused = queue.dead_letters(&LONG, &DeadFilter::all(), page).await;
    assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
}

/// As somebody does who writes into the queue of dead letters himself.
async fn bury_raw(node: &RabbitBroker, queue: &str, body: &str, letters: usize) {
    let publish = format!(
        "rabbit_basic:publish(rabbit_misc:r(<<\"/\">>, exchange, <<>>), <<\"dead.dead.{queue}\">>, \
         rabbit_basic:properties([{{delivery_mode, 2}}]), {body})"
    );
    // It has them when it answers.
    let taken = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"dead.dead.{queue}\">>)), rabbit_amqqueue:stat(Q)"
    );
    let all = format!("lists:foreach(fun(N) -> {publish} end, lists:seq(1, {letters})), {taken}");
    let said = node.eval(&all).await.unwrap();
    assert!(said.contains("ok"), "{said}");
}

async fn letters_of_strangers_are_listed_once(node: &RabbitBroker, queue: &Arc<dyn Queue>) {
    queue.declare(&STRANGE.into()).await.unwrap();
    bury_raw(node, "strange", "<<\"the same\">>", 20).await;
    bury_raw(node, "strange", "integer_to_binary(N)", 20).await;
    let (mut bodies, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let mut page = Page::first(7);
        page.after = after;
        let listed = queue.dead_letters(&STRANGE, &DeadFilter::all(), page).await.unwrap();
        bodies.extend(listed.dead_letters.into_iter().map(|letter| format!("{:?}", letter.body)));
        pages += 1;
        assert!(pages < 100, "a listing that never ends");
        let Some(next) = listed.next else { break };
        after = Some(next);
    }
    assert_eq!(bodies.len(), 40, "{bodies:?}");
    bodies.dedup();
    assert_eq!(bodies.len(), 21, "{bodies:?}");
}
