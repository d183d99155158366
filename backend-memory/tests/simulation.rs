//! The simulated broker: what it suffers, and what its clients notice of it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Certainty, ConnectOptions, Consumer, Error, Message, Published, Queue, QueueName, Result, Subscription,
    Verdict,
};
use polyqueue_memory::{Direction, MemoryBroker, SimulatedLink};
use tokio::time::{Instant, sleep};

const Q: QueueName = QueueName::from_static("q");
const DEADLINE: Duration = Duration::from_secs(2);

async fn client(link: &SimulatedLink) -> Arc<dyn Queue> {
    link.open(&ConnectOptions::new("").deadline(DEADLINE)).await.unwrap()
}

/// A broker with a queue, a client over a link of its own, and that link.
async fn place() -> (MemoryBroker, SimulatedLink, Arc<dyn Queue>) {
    let broker = MemoryBroker::new();
    let link = broker.link();
    let queue = client(&link).await;
    queue.declare(&Q.into()).await.unwrap();
    (broker, link, queue)
}

async fn publish(queue: &Arc<dyn Queue>) -> Result<Published> {
    queue.publish(&Q.into(), vec![Message::new("hello")]).await?.remove(0)
}

async fn consumer(queue: &Arc<dyn Queue>) -> Box<dyn Consumer> {
    queue.subscribe(&Subscription::new(Q).lease(Duration::from_secs(60))).await.unwrap()
}

async fn ready(queue: &Arc<dyn Queue>) -> u64 {
    queue.stats(&Q).await.unwrap().ready
}

fn unavailable(answer: Result<Published>) -> Certainty {
    match answer {
        Err(Error::Unavailable { certainty, .. }) => certainty,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_request_has_no_effect_and_a_cut_answer_had_one() {
    let (_broker, link, queue) = place().await;
    link.cut_after(Direction::ToBroker, 10);
    assert_eq!(unavailable(publish(&queue).await), Certainty::Definite);
    assert_eq!(ready(&queue).await, 0);
    link.cut_after(Direction::ToClient, 10);
    assert_eq!(unavailable(publish(&queue).await), Certainty::Unknown);
    assert_eq!(ready(&queue).await, 1);
    assert_eq!(link.cuts(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_cut_answer_held_comes_again_at_once_as_the_first_attempt() {
    let (_broker, link, queue) = place().await;
    let consumer = consumer(&queue).await;
    publish(&queue).await.unwrap();
    link.cut_after(Direction::ToClient, 10);
    let start = Instant::now();
    let came = consumer.receive(1, Duration::from_secs(5)).await.unwrap();
    assert_eq!((came.len(), came[0].attempt), (1, 1));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn only_the_link_that_is_cut_suffers() {
    let (broker, link, queue) = place().await;
    let other = client(&broker.link()).await;
    link.refuse();
    link.cut();
    assert_eq!(unavailable(publish(&queue).await), Certainty::Definite);
    publish(&other).await.unwrap();
    link.heal();
    publish(&queue).await.unwrap();
    assert_eq!(ready(&other).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_withheld_is_silence_and_arrives_when_healed() {
    let (broker, link, queue) = place().await;
    let other = client(&broker.link()).await;
    link.swallow(Direction::ToBroker);
    let start = Instant::now();
    let silent = publish(&queue).await.unwrap_err();
    assert!(matches!(silent, Error::Timeout { certainty: Certainty::Unknown, .. }), "{silent}");
    assert_eq!(start.elapsed(), DEADLINE);
    assert_eq!(ready(&other).await, 0);
    link.heal();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(ready(&other).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_and_a_long_one_take_their_time() {
    let (_broker, link, queue) = place().await;
    link.slow(1_000);
    let start = Instant::now();
    queue.publish(&Q.into(), vec![Message::new(vec![0; 1_000])]).await.unwrap();
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    link.heal();
    link.delay(Duration::from_millis(200));
    let start = Instant::now();
    publish(&queue).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(400));
}

#[tokio::test(start_paused = true)]
async fn a_killed_broker_keeps_messages_and_leases_and_its_clients_come_back() {
    let (broker, link, queue) = place().await;
    let consumer: Arc<dyn Consumer> = consumer(&queue).await.into();
    publish(&queue).await.unwrap();
    let held = consumer.receive(1, Duration::ZERO).await.unwrap().remove(0);
    let receiving = consumer.clone();
    let waits = tokio::spawn(async move { receiving.receive(1, Duration::from_secs(30)).await });
    sleep(Duration::from_secs(1)).await;
    broker.kill9();
    assert_eq!(link.open_connections(), 0);
    assert_eq!(unavailable(publish(&queue).await), Certainty::Definite);
    assert!(!queue.health().await.healthy);
    broker.heal();
    let settled = consumer.settle(&[(held.receipt, Verdict::Ack)]).await.unwrap();
    assert!(settled[0].is_ok());
    publish(&queue).await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap().len(), 1);
    let attempts = link.attempts();
    assert!(attempts.len() < 20, "backed off: {attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_broker_answers_nobody_until_it_runs() {
    let (broker, _link, queue) = place().await;
    broker.pause();
    let answer = publish(&queue);
    let resumed = async {
        sleep(Duration::from_secs(1)).await;
        broker.heal();
    };
    let start = Instant::now();
    let (answer, ()) = tokio::join!(answer, resumed);
    answer.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_wiped_broker_serves_the_same_handles_again_and_nothing_old() {
    let (broker, _link, queue) = place().await;
    let consumer: Arc<dyn Consumer> = consumer(&queue).await.into();
    publish(&queue).await.unwrap();
    broker.wipe();
    publish(&queue).await.unwrap();
    assert_eq!(consumer.receive(10, Duration::ZERO).await.unwrap().len(), 1);
    let receiving = consumer.clone();
    let waits = tokio::spawn(async move { receiving.receive(1, Duration::from_secs(30)).await });
    sleep(Duration::from_secs(1)).await;
    broker.wipe();
    sleep(Duration::from_secs(1)).await;
    publish(&queue).await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap().len(), 1);
    queue.delete(&Q).await.unwrap();
    assert!(matches!(publish(&queue).await, Err(Error::NotFound(_))), "deleted by hand, it stays deleted");
}

#[tokio::test(start_paused = true)]
async fn an_alarm_holds_back_publishers_only_and_leaves_no_copy() {
    let (broker, _link, queue) = place().await;
    let consumer = consumer(&queue).await;
    publish(&queue).await.unwrap();
    broker.alarm();
    assert_eq!(unavailable(publish(&queue).await), Certainty::Definite);
    assert_eq!(consumer.receive(1, Duration::ZERO).await.unwrap().len(), 1);
    broker.heal();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ready(&queue).await, 0);
}

#[tokio::test(start_paused = true)]
async fn writes_are_refused_for_certain_and_reads_are_not() {
    let (broker, _link, queue) = place().await;
    for trouble in [MemoryBroker::out_of_memory, MemoryBroker::read_only] {
        trouble(&broker);
        assert_eq!(unavailable(publish(&queue).await), Certainty::Definite);
        assert_eq!(ready(&queue).await, 0);
        broker.heal();
    }
    publish(&queue).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_refused_backs_off_and_ends_with_its_wait() {
    let (broker, link, queue) = place().await;
    let consumer = consumer(&queue).await;
    broker.read_only();
    let before = link.passed(Direction::ToBroker);
    let start = Instant::now();
    let refused = consumer.receive(1, Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { certainty: Certainty::Definite, .. }), "{refused}");
    assert_eq!(start.elapsed(), Duration::from_secs(20));
    let asked = link.passed(Direction::ToBroker) - before;
    assert!(asked < 64 * 40, "{asked} bytes of requests in 20 s");
}

#[tokio::test(start_paused = true)]
async fn a_shifted_clock_dates_messages_and_moves_no_delay() {
    let (broker, _link, queue) = place().await;
    let consumer = consumer(&queue).await;
    let delayed = Message::new("later").with_delay(Duration::from_secs(10));
    queue.publish(&Q.into(), vec![delayed]).await.unwrap();
    broker.shift_clock(3_600_000);
    publish(&queue).await.unwrap();
    let start = Instant::now();
    let dated = consumer.receive(1, Duration::ZERO).await.unwrap().remove(0).message;
    let late = consumer.receive(1, Duration::from_secs(60)).await.unwrap().remove(0).message;
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    let ahead = dated.published_at().unwrap() - late.published_at().unwrap();
    assert!(ahead.num_minutes() >= 60, "{ahead}");
}

/// What a crowd sees while its links are cut, by a seed.
async fn history(seed: u64) -> Vec<String> {
    let (broker, _link, queue) = place().await;
    let began = Instant::now();
    let links: Vec<_> = (0..4).map(|_| broker.link()).collect();
    let crowd = links.iter().enumerate().map(|(who, link)| {
        let link = link.clone();
        tokio::spawn(async move {
            let queue = client(&link).await;
            let mut seen = Vec::new();
            for nth in 0..20 {
                let answer = publish(&queue).await.map(drop).map_err(|error| error.certainty());
                seen.push(format!("{who} {nth} {answer:?} {:?}", began.elapsed()));
                sleep(Duration::from_millis(70)).await;
            }
            seen
        })
    });
    let crowd: Vec<_> = crowd.collect();
    let mut state = seed;
    for _ in 0..40 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let link = &links[(state >> 33) as usize % 4];
        match (state >> 40) % 4 {
            0 => link.cut_after(Direction::ToClient, state >> 56),
            1 => link.swallow(Direction::ToBroker),
            2 => broker.close_connections(),
            _ => link.heal(),
        }
        sleep(Duration::from_millis(state >> 58)).await;
    }
    links.iter().for_each(SimulatedLink::heal);
    let mut all = Vec::new();
    for one in crowd {
        all.extend(one.await.unwrap());
    }
    all.push(format!("ready {}", ready(&queue).await));
    all
}

#[tokio::test(start_paused = true)]
async fn one_seed_is_one_history() {
    for seed in 1..6 {
        assert_eq!(history(seed).await, history(seed).await);
    }
    assert_ne!(history(1).await, history(2).await);
}
