//! The ways to a queue, while others delete it, declare it anew, or move it to another broker.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use polyqueue::{
    Certainty, ConnectOptions, Dedup, Error, Message, Overflow, Pattern, Purge, Queue, QueueExt, QueueName,
    QueueSpec, RoutingKey, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use self::support::{MOMENT, Q, is_missing, put, take, works};

const CATALOGUE: &str = "polyqueue.catalogue";

/// The node that the tests share; it ends with the last of them.
static NODE: Mutex<Weak<RabbitBroker>> = Mutex::const_new(Weak::new());

/// A virtual host of a test's own.
struct Host {
    node: Arc<RabbitBroker>,
    name: &'static str,
}

impl Host {
    async fn new(name: &'static str) -> Self {
        let mut shared = NODE.lock().await;
        let node = match shared.upgrade() {
            Some(node) => node,
            None => Arc::new(RabbitBroker::start().await.unwrap()),
        };
        *shared = Arc::downgrade(&node);
        node.eval(&format!("rabbit_vhost:add(<<\"{name}\">>, <<\"test\">>)")).await.unwrap();
        let host = Self { node, name };
        host.permit(".*").await;
        host
    }

    /// What the user may configure; he may read and write all.
    async fn permit(&self, configure: &str) {
        let host = self.name;
        let permit = format!(
            "rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"{host}\">>, <<\"{configure}\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>)"
        );
        assert!(self.node.eval(&permit).await.unwrap().contains("ok"));
    }

    fn url(&self) -> String {
        self.node.url().replace("/%2f", &format!("/{}", self.name))
    }

    /// A life's address, by the gate that is bound to its queue.
    async fn address(&self, name: &QueueName) -> String {
        let host = self.name;
        let of = format!(
            "[binary_to_list(binary:part(X, 13, byte_size(X) - 13)) || {{binding, {{resource, _, exchange, X}}, _, _, _}} <- \
             rabbit_binding:list_for_destination(rabbit_misc:r(<<\"{host}\">>, queue, <<\"polyqueue.q.{name}\">>)), \
             binary:longest_common_prefix([X, <<\"polyqueue.at.\">>]) =:= 13]"
        );
        let said = self.node.eval(&of).await.unwrap();
        said.trim().trim_matches(['[', ']', '"']).to_owned()
    }
}

async fn connect(url: &str) -> Arc<dyn Queue> {
    PROVIDER.connect(ConnectOptions::new(url)).await.unwrap()
}

/// Somebody who has never heard of this library.
async fn stranger(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

async fn append(channel: &Channel, record: &str) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let publish = channel.basic_publish("".into(), CATALOGUE.into(), options, record.as_bytes(), properties);
    assert!(publish.await.unwrap().await.unwrap().is_ack());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_that_are_imported_elsewhere_work_at_once() {
    let (from, to) = (RabbitBroker::start().await.unwrap(), RabbitBroker::start().await.unwrap());
    let (here, bound) = (connect(&from.url()).await, QueueName::from_static("bound"));
    here.declare(&Q.into()).await.unwrap();
    here.declare(&QueueSpec::new(bound.clone()).bound(1, Overflow::Reject)).await.unwrap();
    let twice = QueueName::from_static("twice");
    for _ in 0..2 {
        here.declare(&twice.clone().into()).await.unwrap();
        here.delete(&twice).await.unwrap();
    }
    here.declare(&twice.clone().into()).await.unwrap();
    let file = std::env::temp_dir().join(format!("polyqueue-definitions-{}", from.port()));
    let path = file.display();
    let export =
        format!("file:write_file(\"{path}\", rabbit_json:encode(rabbit_definitions:all_definitions()))");
    assert!(from.eval(&export).await.unwrap().contains("ok"));
    let import = format!("{{ok, Body}} = file:read_file(\"{path}\"), rabbit_definitions:import_raw(Body)");
    let said = to.eval(&import).await.unwrap();
    assert!(said.contains("ok"), "{said}");
    std::fs::remove_file(&file).unwrap();

    let there = connect(&to.url()).await;
    works(&there).await;
    there.publish_one(&twice, Message::new("").with_delay(MOMENT)).await.unwrap();
    let refused = there.publish_one(&bound, Message::new("")).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    assert!(there.health().await.detail.contains("not listed"), "{:?}", there.health().await);
    there.declare(&QueueSpec::new(bound.clone()).bound(1, Overflow::Reject)).await.unwrap();
    assert!(there.publish_one(&bound, Message::new("")).await.is_ok());
    assert!(matches!(there.publish_one(&bound, Message::new("")).await, Err(Error::Full { .. })));
    there.declare(&Q.into()).await.unwrap();
    there.declare(&twice.clone().into()).await.unwrap();
    assert_eq!(there.queues().await.unwrap().len(), 3);
    assert_eq!(there.health().await.detail, "");
    assert_eq!(there.stats(&twice).await.unwrap().ready, 1);
}

/// Bounds and keys are known of a queue that somebody else has declared a moment ago, as something else than before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_declare_is_kept_by_who_never_declared_it() {
    let host = Host::new("others").await;
    let (owner, stale) = (connect(&host.url()).await, connect(&host.url()).await);
    for bound in [3, 5, 0, 1, 0, 2] {
        let spec = QueueSpec::new(Q);
        owner.declare(&if bound > 0 { spec.bound(bound, Overflow::Reject) } else { spec }).await.unwrap();
        let mut stored = 0;
        for _ in 0..8 {
            match put(&stale, "", Duration::ZERO).await {
                Ok(()) => stored += 1,
                Err(Error::Full { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(stored, if bound > 0 { bound } else { 8 });
        owner.delete(&Q).await.unwrap();
        for delay in [Duration::ZERO, MOMENT] {
            assert!(is_missing(&put(&stale, "", delay).await));
        }
    }
    owner.declare(&QueueSpec::new(Q).dedup(Dedup::window(Duration::from_secs(60)))).await.unwrap();
    let keyed = || stale.publish_one(Q, Message::new("").with_dedup_key("k"));
    assert!(keyed().await.unwrap().duplicate_of.is_none());
    assert!(keyed().await.unwrap().duplicate_of.is_some());
    assert!(connect(&host.url()).await.publish_one(Q, Message::new("")).await.is_ok());
}

/// Nothing that was confirmed for a life that goes on is lost, and nothing of a former life comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_publishers_beside_who_deletes_and_declares_are_told_the_truth() {
    let host = Host::new("stale").await;
    let owner = connect(&host.url()).await;
    owner.declare(&Q.into()).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut publishers = Vec::new();
    for publisher in 0..2 {
        let (queue, over) = (connect(&host.url()).await, over.clone());
        publishers.push(tokio::spawn(async move {
            let mut confirmed = Vec::new();
            for n in 0.. {
                if over.load(Relaxed) {
                    break;
                }
                let (text, began) = (format!("{publisher}-{n}"), Instant::now());
                let delay = if n % 2 == 0 { Duration::ZERO } else { Duration::from_millis(1500) };
                match put(&queue, &text, delay).await {
                    Ok(()) => confirmed.push((text, began)),
                    Err(Error::NotFound(_)) => {}
                    // There, and not listed yet: nobody says that it is not there.
                    Err(error) => assert_eq!(error.certainty(), Certainty::Definite, "{error}"),
                }
            }
            confirmed
        }));
    }
    let mut declared = Instant::now();
    for _ in 0..12 {
        owner.delete(&Q).await.unwrap();
        owner.declare(&Q.into()).await.unwrap();
        declared = Instant::now();
        sleep(Duration::from_millis(60)).await;
    }
    sleep(Duration::from_secs(1)).await;
    over.store(true, Relaxed);
    let consumer = owner.subscribe(&Subscription::new(Q)).await.unwrap();
    let mut expected = HashSet::new();
    let mut earlier = HashSet::new();
    for publisher in publishers {
        for (text, began) in publisher.await.unwrap() {
            if began > declared {
                expected.insert(text)
            } else {
                earlier.insert(text)
            };
        }
    }
    assert!(expected.len() > 20, "{}", expected.len());
    let mut came = HashSet::new();
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        for delivery in consumer.receive(100, Duration::from_millis(500)).await.unwrap() {
            assert!(came.insert(String::from_utf8(delivery.message.payload().to_vec()).unwrap()));
            consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await.unwrap().remove(0).unwrap();
        }
    }
    let lost: Vec<_> = expected.difference(&came).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), expected.len());
    // Those that began before the last declaration and were published after it.
    let extra = came.difference(&expected).count();
    assert!(extra <= 4 && came.difference(&expected).all(|text| earlier.contains(text)), "{extra}");
}

/// What is left of a deletion that was cut off after any of its steps, by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_was_cut_off_comes_to_its_end() {
    let host = Host::new("cut").await;
    let (_connection, channel) = stranger(&host.url()).await;
    let observer = connect(&host.url()).await;
    for cut in 0..4_usize {
        for then in ["delete", "both"].into_iter().chain((cut % 2 == 1).then_some("declare")) {
            let owner = connect(&host.url()).await;
            let name = QueueName::new(format!("cut-{cut}-{then}")).unwrap();
            owner.declare(&name.clone().into()).await.unwrap();
            owner.publish_one(&name, Message::new("old").with_delay(MOMENT * 10)).await.unwrap();
            owner.publish_one(&name, Message::new("old")).await.unwrap();
            let address = host.address(&name).await;
            append(&channel, &format!(r#"{{"op":"deleting","queue":"{name}","address":"{address}"}}"#)).await;
            let ended = format!("l.{address}");
            if cut > 0 {
                let options = QueueBindOptions::default();
                let sink = ("polyqueue.sink".into(), "polyqueue.in".into());
                channel
                    .queue_bind(sink.0, sink.1, ended.into(), options, FieldTable::default())
                    .await
                    .unwrap();
            }
            for part in ["q", "dead"].iter().take(cut.saturating_sub(1)) {
                let object = format!("polyqueue.{part}.{name}");
                channel.queue_delete(object.into(), QueueDeleteOptions::default()).await.unwrap();
            }
            if cut > 1 {
                assert!(is_missing(&observer.publish_one(&name, Message::new("gone")).await), "{name}");
            }
            if then != "declare" {
                observer.delete(&name).await.unwrap();
                assert!(is_missing(&observer.publish_one(&name, Message::new("gone")).await), "{name}");
            }
            if then != "delete" {
                observer.declare(&name.clone().into()).await.unwrap();
                owner.publish_one(&name, Message::new("new")).await.unwrap();
                owner.publish_one(&name, Message::new("new").with_delay(MOMENT)).await.unwrap();
                sleep(Duration::from_millis(400)).await;
                assert_eq!(observer.stats(&name).await.unwrap().ready, 2, "{name}");
            }
            owner.close().await.unwrap();
        }
    }
    sleep(Duration::from_secs(1)).await;
    for spec in observer.queues().await.unwrap() {
        assert_eq!(observer.stats(&spec.name).await.unwrap().ready, 2, "{}: an old one came", spec.name);
    }
}

/// Without the right to configure, all works that makes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_configure_uses_what_is_there() {
    let host = Host::new("denied").await;
    let owner = connect(&host.url()).await;
    let spec = QueueSpec::new(Q).bind(Pattern::new("t").unwrap());
    owner.declare(&spec).await.unwrap();
    works(&owner).await; // makes what delays need
    owner.close().await.unwrap();
    host.permit("^$").await;
    let queue = connect(&host.url()).await;
    queue.declare(&spec).await.unwrap();
    works(&queue).await;
    let topic = RoutingKey::new("t").unwrap();
    queue.publish(&topic.into(), vec![Message::new("")]).await.unwrap().remove(0).unwrap();
    assert_eq!(queue.purge(&Q, Purge::Waiting).await.unwrap(), 1);
    assert_eq!(queue.queues().await.unwrap(), [spec]);
    let denied = queue.declare(&QueueName::from_static("new").into()).await;
    assert!(matches!(denied, Err(Error::Denied { .. })), "{denied:?}");
}

/// What is delayed finds a queue with a bound by its address, which a client learns; what is not, by what it is declared to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_both_reaches_a_queue_with_a_bound_that_this_client_has_never_declared() {
    let host = Host::new("mixed").await;
    let owner = connect(&host.url()).await;
    owner.declare(&QueueSpec::new(Q).bound(10, Overflow::Reject)).await.unwrap();
    let other = connect(&host.url()).await;
    let batch = vec![Message::new("later").with_delay(MOMENT), Message::new("now")];
    let answers = other.publish(&Q.into(), batch).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(take(&owner, 2).await.len(), 2);
}
