//! Alarms and limits of a real broker: what is refused is refused for sure, and harms nobody else.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use polyqueue::{
    Certainty, ConnectOptions, Consumer, Error, Message, Queue, QueueExt, QueueName, Settled, Subscription,
    Verdict,
};
use polyqueue_conformance::Fault;
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::sleep;

const Q: QueueName = QueueName::from_static("q");
const SOON: Duration = Duration::from_secs(10);

async fn open(broker: &RabbitBroker, deadline: Duration) -> Arc<dyn Queue> {
    let patient = PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
    patient.declare(&Q.into()).await.unwrap();
    patient.close().await.unwrap();
    PROVIDER.connect(ConnectOptions::new(broker.url()).deadline(deadline)).await.unwrap()
}

async fn suffer(broker: &RabbitBroker, fault: Fault) {
    broker.own_fault(fault).unwrap().await.unwrap();
}

/// How many messages come until none does.
async fn drained(consumer: &dyn Consumer) -> HashMap<String, usize> {
    let mut came = HashMap::new();
    while let Some(delivery) = consumer.receive(1, Duration::from_secs(2)).await.unwrap().pop() {
        *came.entry(delivery.message.id().to_string()).or_default() += 1;
        consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await.unwrap();
    }
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_idle_when_an_alarm_came_is_refused_for_sure_and_leaves_nothing() {
    let broker = RabbitBroker::start().await.unwrap();
    // A node that is busy, too, must have answered the question whether it has an alarm by then.
    let queue = open(&broker, SOON).await;
    queue.publish_one(Q, Message::new("before")).await.unwrap();
    sleep(Duration::from_millis(1_500)).await;
    suffer(&broker, Fault::Alarm).await;
    let publishes = (0..64).map(|_| queue.publish_one(Q, Message::new(vec![0; 4_096])));
    for answer in join_all(publishes).await {
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::Unavailable { certainty: Certainty::Definite, .. }), "{error}");
        assert!(error.to_string().contains("blocks publishes"), "{error}");
    }
    let health = queue.health().await;
    assert!(!health.healthy && health.detail.contains("blocks publishes"), "{health:?}");
    broker.undo().await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    assert_eq!(drained(&*consumer).await.len(), 1, "what was refused came");
    queue.publish_one(Q, Message::new("after")).await.unwrap();
    assert!(queue.health().await.healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_knows_of_an_alarm_before_anybody_publishes() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker, SOON).await;
    assert!(queue.health().await.healthy);
    suffer(&broker, Fault::Alarm).await;
    let told = Instant::now();
    let health = queue.health().await;
    assert!(!health.healthy && health.detail.contains("blocks publishes"), "{health:?}");
    assert!(told.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declaration_that_an_alarm_holds_up_says_so() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker, Duration::from_secs(2)).await;
    suffer(&broker, Fault::Alarm).await;
    let error = queue.declare(&QueueName::from_static("late").into()).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. }) && error.to_string().contains("blocks publishes"),
        "{error}"
    );
    broker.undo().await.unwrap();
    queue.declare(&QueueName::from_static("late").into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_that_are_repeated_during_an_alarm_leave_one_copy() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker, Duration::from_secs(1)).await;
    let batch = (0..16).map(|nth| Message::new(format!("{nth}"))).collect();
    queue.publish(&Q.into(), batch).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q).prefetch(16)).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 16 {
        held.extend(consumer.receive(16, SOON).await.unwrap());
    }
    suffer(&broker, Fault::Alarm).await;
    let retry = || Verdict::Retry { after: Duration::ZERO, error: "failed".into() };
    for _ in 0..6 {
        let verdicts: Vec<_> = held.iter().map(|delivery| (delivery.receipt.clone(), retry())).collect();
        let _ = consumer.settle(&verdicts).await;
        sleep(Duration::from_millis(200)).await;
    }
    broker.undo().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let verdicts: Vec<_> = held.iter().map(|delivery| (delivery.receipt.clone(), retry())).collect();
    let _ = consumer.settle(&verdicts).await;
    let came = drained(&*consumer).await;
    assert_eq!(came.len(), 16);
    assert!(came.values().all(|times| *times == 1), "{came:?}");
}

/// What a retry has left stands: it is no dead letter because somebody says so afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_after_one_that_took_effect_unseen_has_none_and_says_so() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker, Duration::from_secs(1)).await;
    queue.publish_one(Q, Message::new("once")).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    let delivery = consumer.receive(1, SOON).await.unwrap().remove(0);
    let settled =
        async |verdict| consumer.settle(&[(delivery.receipt.clone(), verdict)]).await.unwrap().remove(0);
    // The broker's answer does not come in time.
    let retry = Verdict::Retry { after: Duration::ZERO, error: "failed".into() };
    broker.freeze().unwrap();
    let unknown = settled(retry).await;
    broker.thaw().unwrap();
    assert_eq!(unknown.unwrap_err().certainty(), Certainty::Unknown);
    assert_eq!(settled(Verdict::reject("no")).await.unwrap(), Settled::AlreadySettled);
    assert_eq!(queue.stats(&Q).await.unwrap().dead, 0);
    assert_eq!(drained(&*consumer).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_the_broker_harms_nobody_and_is_known_afterwards() {
    let broker = RabbitBroker::start().await.unwrap();
    suffer(&broker, Fault::SizeLimit(1_000_000)).await;
    let queue = open(&broker, SOON).await;
    let large = (0..10).map(|_| queue.publish_one(Q, Message::new(vec![0; 2_000_000])));
    let small = (0..180).map(|_| queue.publish_one(Q, Message::new("small")));
    let (large, small) = tokio::join!(join_all(large), join_all(small));
    for answer in large {
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("1000000"), "{error}");
    }
    for answer in small {
        answer.unwrap();
    }
    queue.publish_one(Q, Message::new(vec![0; 999_999])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_many_ends_with_every_answer_true() {
    const MANY: usize = 30_000;
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker, Duration::from_secs(3)).await;
    let before = resident();
    let batch = (0..MANY).map(|_| Message::new("small")).collect();
    let answers = queue.publish(&Q.into(), batch).await.unwrap();
    println!("resident memory grew by {} KiB", resident().saturating_sub(before));
    let stored = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
    let unknown =
        answers.iter().flatten_err().filter(|error| error.certainty() == Certainty::Unknown).count();
    assert!(unknown <= 1_024, "{unknown} unknown");
    let ready = queue.stats(&Q).await.unwrap().ready;
    assert!(
        (stored..=stored + unknown as u64).contains(&ready),
        "{stored} stored, {unknown} unknown, {ready} there"
    );
}

trait FlattenErr<'a>: Iterator<Item = &'a polyqueue::Result<polyqueue::Published>> + Sized {
    fn flatten_err(self) -> impl Iterator<Item = &'a Error> {
        self.filter_map(|answer| answer.as_ref().err())
    }
}

impl<'a, I: Iterator<Item = &'a polyqueue::Result<polyqueue::Published>>> FlattenErr<'a> for I {}

/// In KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_wears_out_what_others_are_asked_on() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker, SOON).await;
    let asked = (0..32).map(|task| {
        let queue = queue.clone();
        tokio::spawn(async move {
            for nth in 0..100 {
                if (task + nth) % 5 < 2 {
                    let name = QueueName::new(format!("nobody-{task}-{nth}")).unwrap();
                    assert!(matches!(queue.stats(&name).await, Err(Error::NotFound(_))));
                } else {
                    assert_eq!(queue.stats(&Q).await.unwrap().ready, 0);
                }
            }
        })
    });
    join_all(asked).await.into_iter().for_each(Result::unwrap);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_consumers_than_a_connection_has_channels_for_share_several() {
    let broker = RabbitBroker::start().await.unwrap();
    broker.eval("application:set_env(rabbit, channel_max, 16)").await.unwrap();
    let queue = open(&broker, SOON).await;
    let mut consumers = Vec::new();
    for _ in 0..40 {
        let consumer = queue.subscribe(&Subscription::new(Q).consumer("reader")).await.unwrap();
        consumer.receive(1, Duration::ZERO).await.unwrap();
        consumers.push(consumer);
    }
    let names = broker.eval(CONNECTION_NAMES).await.unwrap();
    assert!(names.contains("polyqueue consumer of polyqueue"), "{names}");
    assert!(names.contains("polyqueue publisher of polyqueue"), "{names}");
    let waits = consumers[0].receive(1, Duration::from_secs(2));
    let (_, tags) = tokio::join!(waits, async {
        sleep(Duration::from_secs(1)).await;
        broker.eval("[C || {_, C} <- [{1, rabbit_amqqueue:consumers_all(<<\"/\">>)}]]").await.unwrap()
    });
    assert!(tags.contains("reader-"), "{tags}");
}

const CONNECTION_NAMES: &str = "[begin [{_, P}] = rabbit_networking:connection_info(C, [client_properties]), \
     element(3, lists:keyfind(<<\"connection_name\">>, 1, P)) end || C <- rabbit_networking:connections()]";
