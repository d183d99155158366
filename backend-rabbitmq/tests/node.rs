//! What only RabbitMQ has, seen from a plain client beside the library, on a private node.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicRecoverOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use polyqueue::{
    ConnectOptions, Consumer, DeadFilter, DeadLetter, DeadReason, Dedup, Delivery, Destination, Error,
    Message, MessageId, Overflow, Page, Pattern, Priority, Queue, QueueExt, QueueName, QueueSpec, Reschedule,
    Settled, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::sleep;

/// Long beside what a busy machine needs between two calls.
const TTL: Duration = Duration::from_millis(1500);
const SOON: Duration = Duration::from_secs(10);
const NAMESPACE: &str = "node";

struct Bench {
    node: RabbitBroker,
    queue: Arc<dyn Queue>,
    plain: Channel,
}

impl Bench {
    async fn start() -> Self {
        let node = RabbitBroker::start().await.unwrap();
        let queue = PROVIDER.connect(ConnectOptions::new(node.url()).namespace(NAMESPACE)).await.unwrap();
        let connection = Connection::connect(&node.url(), ConnectionProperties::default()).await.unwrap();
        let plain = connection.create_channel().await.unwrap();
        plain.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { node, queue, plain }
    }

    async fn declared(&self, spec: QueueSpec) -> QueueName {
        self.queue.declare(&spec).await.unwrap();
        spec.name
    }

    /// Publishes as somebody who has never heard of this library.
    async fn publish(&self, exchange: &str, key: &str, properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = self.plain.basic_publish(exchange.into(), key.into(), options, b"foreign", properties);
        let confirm = sent.await.unwrap().await.unwrap();
        assert!(confirm.is_ack() && confirm.take_message().is_none(), "came back");
    }

    async fn consumer(&self, name: &QueueName) -> Box<dyn Consumer> {
        self.queue.subscribe(&Subscription::new(name.clone())).await.unwrap()
    }

    async fn dead(&self, name: &QueueName) -> Vec<DeadLetter> {
        self.queue.dead_letters(name, &DeadFilter::all(), Page::first(500)).await.unwrap().dead_letters
    }

    /// The dead letters, once there are so many.
    async fn dead_at_last(&self, name: &QueueName, letters: usize) -> Vec<DeadLetter> {
        for _ in 0..200 {
            let dead = self.dead(name).await;
            if dead.len() == letters {
                return dead;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("never {letters} dead letters in {name}: {:?}", self.dead(name).await);
    }

    /// The broker's queues of this namespace whose names go on so.
    async fn objects(&self, middle: &str) -> String {
        let prefix = format!("{NAMESPACE}.{middle}.");
        let list = format!(
            "[N || Q <- rabbit_amqqueue:list(), {{resource, _, queue, N}} <- [amqqueue:get_name(Q)], \
             lists:prefix(\"{prefix}\", binary_to_list(N))]"
        );
        self.node.eval(&list).await.unwrap()
    }
}

fn named(name: &'static str) -> QueueSpec {
    QueueSpec::new(QueueName::from_static(name))
}

async fn next(consumer: &dyn Consumer) -> Delivery {
    consumer.receive(1, SOON).await.unwrap().pop().expect("nothing came")
}

async fn settle(consumer: &dyn Consumer, delivery: &Delivery, verdict: Verdict) -> Settled {
    let verdicts = [(delivery.receipt.clone(), verdict)];
    consumer.settle(&verdicts).await.unwrap().pop().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_private_node() {
    let bench = Bench::start().await;
    tokio::join!(
        a_foreign_client_publishes_to_topics(&bench),
        a_foreign_client_is_answered(&bench),
        a_foreign_time_to_live_is_one(&bench),
        time_goes_on_over_copies_and_waits(&bench),
        a_buffer_hands_out_nothing_that_died_in_it(&bench),
        what_expired_in_front_of_others_is_not_handed_out(&bench),
        a_wrong_clock_is_not_believed(&bench),
        keys_leave_nothing(&bench),
        a_death_that_the_broker_deals_frees_its_key(&bench),
        what_cannot_be_kept_is_refused(&bench),
        looks_with_other_tools_count_once_and_lose_nothing(&bench),
    );
    bench.queue.close().await.unwrap();
}

async fn a_foreign_client_publishes_to_topics(bench: &Bench) {
    let name = bench.declared(named("topics").bind(Pattern::new("order.#").unwrap())).await;
    bench.publish(&format!("{NAMESPACE}.topics"), "order.paid", BasicProperties::default()).await;
    let came = next(&*bench.consumer(&name).await).await;
    assert_eq!((came.queue, came.message.payload().as_ref()), (name, b"foreign".as_slice()));
}

async fn a_foreign_client_is_answered(bench: &Bench) {
    let name = bench.declared(named("requests")).await;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let direct = "amq.rabbitmq.reply-to";
    let replies = bench.plain.basic_consume(direct.into(), "".into(), options, FieldTable::default());
    let mut replies = replies.await.unwrap();
    let request = BasicProperties::default().with_reply_to(direct.into()).with_correlation_id("7".into());
    bench.publish("", &format!("{NAMESPACE}.q.{name}"), request).await;
    let asked = next(&*bench.consumer(&name).await).await.message;
    let reply = Message::new("answer").with_correlation_id(asked.correlation_id().unwrap());
    bench.queue.publish_one(asked.reply_to().unwrap(), reply).await.unwrap();
    let answer = replies.next().await.unwrap().unwrap();
    assert_eq!(answer.data, b"answer");
    assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), "7");
}

async fn a_foreign_time_to_live_is_one(bench: &Bench) {
    let name = bench.declared(named("foreign ttl")).await;
    let key = format!("{NAMESPACE}.q.{name}");
    let mortal = || BasicProperties::default().with_expiration(TTL.as_millis().to_string().into());
    bench.publish("", &key, mortal().with_message_id("unread".into())).await;
    let letter = bench.dead_at_last(&name, 1).await.pop().unwrap();
    assert_eq!((letter.reason, letter.attempts), (DeadReason::Expired, 0));
    let message = letter.message().unwrap();
    assert_eq!((message.id().as_str(), message.ttl()), ("unread", Some(TTL)));
    assert_eq!(bench.queue.redrive(&name, std::slice::from_ref(&letter.id)).await.unwrap(), [true]);
    let again = bench.dead_at_last(&name, 1).await.pop().unwrap();
    assert_eq!((again.reason, again.redriven), (DeadReason::Expired, 1));
    assert_eq!(bench.queue.discard(&name, &[again.id]).await.unwrap(), [true]);
    bench.publish("", &key, mortal().with_message_id("released".into())).await;
    let consumer = bench.consumer(&name).await;
    let held = next(&*consumer).await;
    settle(&*consumer, &held, Verdict::Release { after: Duration::ZERO }).await;
    assert_eq!(bench.dead_at_last(&name, 1).await[0].message().unwrap().ttl(), Some(TTL));
}

async fn time_goes_on_over_copies_and_waits(bench: &Bench) {
    let name = bench.declared(named("copies")).await;
    let consumer = bench.consumer(&name).await;
    bench.queue.publish_one(&name, Message::new("released").with_ttl(TTL)).await.unwrap();
    let held = next(&*consumer).await;
    settle(&*consumer, &held, Verdict::Release { after: Duration::ZERO }).await;
    let letter = bench.dead_at_last(&name, 1).await.pop().unwrap();
    assert_eq!((letter.reason, letter.attempts), (DeadReason::Expired, 0));
    let delayed = Message::new("delayed").with_ttl(TTL).with_delay(TTL / 3);
    bench.queue.publish_one(&name, delayed).await.unwrap();
    sleep(2 * TTL).await;
    assert!(consumer.receive(1, TTL).await.unwrap().is_empty(), "handed out after its time");
    assert_eq!(bench.dead_at_last(&name, 2).await[1].reason, DeadReason::Expired);
}

async fn a_buffer_hands_out_nothing_that_died_in_it(bench: &Bench) {
    let name = bench.declared(named("buffer")).await;
    let push = Subscription::new(name.clone()).prefetch(8);
    let consumer = bench.queue.subscribe(&push).await.unwrap();
    bench.queue.publish_one(&name, Message::new("mortal").with_ttl(TTL)).await.unwrap();
    for _ in 0..200 {
        if bench.queue.stats(&name).await.unwrap().ready == 0 {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    sleep(2 * TTL).await;
    assert!(consumer.receive(1, TTL).await.unwrap().is_empty(), "handed out after its time");
    assert_eq!(bench.dead_at_last(&name, 1).await[0].reason, DeadReason::Expired);
}

/// The broker sets no timer for a message that comes to a queue which is not empty.
async fn what_expired_in_front_of_others_is_not_handed_out(bench: &Bench) {
    let name = bench.declared(named("overlooked")).await;
    let patient =
        bench.queue.publish_one(&name, Message::new("patient").with_priority(Priority::LOWEST)).await;
    bench.queue.publish_one(&name, Message::new("mortal").with_ttl(TTL)).await.unwrap();
    sleep(2 * TTL).await;
    let consumer = bench.consumer(&name).await;
    let came = next(&*consumer).await;
    assert_eq!((came.message.id(), came.attempt), (&patient.unwrap().id, 1));
    assert_eq!(bench.dead_at_last(&name, 1).await[0].reason, DeadReason::Expired);
}

/// A clock that is an hour ahead loses nothing and counts nothing.
async fn a_wrong_clock_is_not_believed(bench: &Bench) {
    let name = bench.declared(named("wrong clock")).await;
    let ahead = ConnectOptions::new(bench.node.url()).namespace(NAMESPACE).clock_offset(TimeDelta::hours(1));
    let ahead = PROVIDER.connect(ahead).await.unwrap();
    let minute = Duration::from_secs(60);
    let sent = bench.queue.publish_one(&name, Message::new("alive").with_ttl(minute)).await.unwrap();
    let consumer = ahead.subscribe(&Subscription::new(name.clone())).await.unwrap();
    let came = next(&*consumer).await;
    assert_eq!((came.message.id(), came.attempt), (&sent.id, 1));
    assert_eq!(settle(&*consumer, &came, Verdict::Ack).await, Settled::Applied);
    ahead.close().await.unwrap();
}

/// The broker marks what was got and put back as it marks what a holder died with.
async fn looks_with_other_tools_count_once_and_lose_nothing(bench: &Bench) {
    let name = bench.declared(named("looked at")).await;
    let last = Message::new("last").with_max_attempts(NonZeroU32::MIN);
    for message in [Message::new("patient"), last] {
        bench.queue.publish_one(&name, message).await.unwrap();
    }
    for _ in 0..5 {
        for _ in 0..2 {
            let got =
                bench.plain.basic_get(format!("{NAMESPACE}.q.{name}").into(), BasicGetOptions::default());
            got.await.unwrap().expect("it was put back");
        }
        bench.plain.basic_recover(BasicRecoverOptions { requeue: true }).await.unwrap();
    }
    let consumer = bench.consumer(&name).await;
    let came = next(&*consumer).await;
    assert_eq!((came.message.payload().as_ref(), came.attempt), (b"patient".as_slice(), 2));
    settle(&*consumer, &came, Verdict::Ack).await;
    let letter = bench.dead_at_last(&name, 1).await.pop().unwrap();
    assert_eq!((letter.reason, letter.attempts), (DeadReason::MaxAttempts, 1));
    assert_eq!(bench.queue.redrive(&name, &[letter.id]).await.unwrap(), [true]);
    let came = next(&*consumer).await;
    assert_eq!((came.message.payload().as_ref(), came.attempt), (b"last".as_slice(), 1));
    settle(&*consumer, &came, Verdict::Ack).await;
}

async fn keys_leave_nothing(bench: &Bench) {
    let spec = named("keys").dedup(Dedup::until_ack(Duration::from_secs(3600)));
    let name = bench.declared(spec).await;
    let keys = ["plain".to_owned(), "#.*".to_owned(), "k".repeat(200), "ключ".to_owned()];
    for key in &keys {
        let keyed = || Message::new("keyed").with_dedup_key(key.as_str());
        let first = bench.queue.publish_one(&name, keyed()).await.unwrap();
        let second = bench.queue.publish_one(&name, keyed().with_delay(SOON)).await.unwrap();
        assert_eq!((first.duplicate_of, second.duplicate_of), (None, Some(first.id)));
    }
    let consumer = bench.consumer(&name).await;
    let held = next(&*consumer).await;
    let key = held.message.dedup_key().unwrap().to_owned();
    settle(&*consumer, &held, Verdict::Ack).await;
    let third = bench.queue.publish_one(&name, Message::new("keyed").with_dedup_key(key)).await.unwrap();
    assert_eq!(third.duplicate_of, None);
    assert!(bench.objects("dedup").await.contains("keyed") || bench.objects("dedup").await.contains("plain"));
    bench.queue.delete(&name).await.unwrap();
    let left = [bench.objects("dedup").await, bench.objects("keys").await].concat();
    assert!(!left.contains("plain") && !left.contains("kkk"), "{left}");
}

async fn a_death_that_the_broker_deals_frees_its_key(bench: &Bench) {
    let name = bench.declared(named("unnoticed").dedup(Dedup::window(Duration::from_secs(3600)))).await;
    let keyed = || Message::new("keyed").with_dedup_key("k");
    let first = bench.queue.publish_one(&name, keyed().with_ttl(TTL)).await.unwrap();
    assert_eq!(bench.queue.publish_one(&name, keyed()).await.unwrap().duplicate_of, Some(first.id));
    let letter = bench.dead_at_last(&name, 1).await.pop().unwrap();
    let heir = bench.queue.publish_one(&name, keyed()).await.unwrap();
    assert_eq!(heir.duplicate_of, None);
    let consumer = bench.consumer(&name).await;
    let held = next(&*consumer).await;
    settle(&*consumer, &held, Verdict::Ack).await;
    // The dead one comes back, and dies again; its key is another's now.
    bench.queue.redrive(&name, &[letter.id]).await.unwrap();
    bench.dead_at_last(&name, 1).await;
    assert_eq!(bench.queue.publish_one(&name, keyed()).await.unwrap().duplicate_of, Some(heir.id));
}

async fn what_cannot_be_kept_is_refused(bench: &Bench) {
    let oldest = bench.queue.declare(&named("oldest").bound(1, Overflow::DropOldest)).await;
    assert!(matches!(oldest, Err(Error::Unsupported { .. })), "{oldest:?}");
    let name = bench.declared(named("plain")).await;
    let id = MessageId::new("any").unwrap();
    let moved = bench.queue.reschedule(&name, &id, Reschedule::Cancel).await;
    assert!(matches!(moved, Err(Error::Unsupported { .. })), "{moved:?}");
    let to = Destination::Queue(name.clone());
    let keyed = vec![Message::new("fine"), Message::new("keyed").with_dedup_key("k")];
    let refused = bench.queue.publish(&to, keyed).await;
    assert!(matches!(refused, Err(Error::Invalid { index: Some(1), .. })), "{refused:?}");
    assert_eq!(bench.queue.stats(&name).await.unwrap().ready, 0);
    // A header that cannot be read makes a dead letter of that message alone.
    for header in ["x-pq-ttl", "x-pq-expires"] {
        let mut headers = FieldTable::default();
        headers.insert(header.into(), AMQPValue::LongString("soon".into()));
        let properties = BasicProperties::default().with_headers(headers);
        bench.publish("", &format!("{NAMESPACE}.q.{name}"), properties).await;
    }
    let consumer = bench.consumer(&name).await;
    assert!(consumer.receive(1, TTL).await.unwrap().is_empty());
    assert_eq!(bench.dead_at_last(&name, 2).await[0].reason, DeadReason::Undecodable);
}

/// For each message that comes due while its queue is being deleted, the broker keeps one of the 32 places of the delay's queue for
/// three minutes.
#[tokio::test]
async fn queues_deleted_when_their_messages_come_due_hold_up_no_others() {
    let bench = Bench::start().await;
    let stays = bench.declared(QueueSpec::new(QueueName::from_static("stays"))).await;
    let soon = || vec![Message::new("soon").with_delay(Duration::from_millis(40))];
    for n in 0..25 {
        let goes = bench.declared(QueueSpec::new(QueueName::new(format!("goes {n}")).unwrap())).await;
        for _ in 0..30 {
            bench.queue.publish(&goes.clone().into(), soon()).await.unwrap();
        }
        bench.queue.delete(&goes).await.unwrap();
    }
    bench.queue.publish(&stays.clone().into(), soon()).await.unwrap();
    let came = bench.consumer(&stays).await.receive(1, SOON).await.unwrap();
    assert_eq!(came.len(), 1, "it waits behind what the deleted queues took along");
}
