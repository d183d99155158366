//! Who publishes to topics follows what others declare, bind and delete: by what has changed, and never by less.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use polyqueue::{Error, Message, Pattern, QueueName, QueueSpec, RoutingKey};
use support::Bench;

const DEADLINE: Duration = Duration::from_secs(10);
const KEYS: u64 = 3;

fn name(number: u64) -> QueueName {
    QueueName::new(format!("queue.{number}")).unwrap()
}

fn pattern(number: u64) -> Pattern {
    Pattern::new(format!("key.{number}")).unwrap()
}

/// So many calls of a command the server has had.
async fn calls(bench: &Bench, command: &str) -> u64 {
    let stats: String = bench.command(&["INFO", "commandstats"]).await;
    let found = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    found.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

/// What was done to the catalogue: which key reaches which queue, and how many messages each queue has had.
#[derive(Default)]
struct Model(BTreeMap<u64, (BTreeSet<u64>, u64)>);

impl Model {
    async fn change(&mut self, bench: &Bench, dice: u64) {
        let (number, key) = (dice / 8 % 9, dice / 128 % KEYS);
        let other = &bench.another(DEADLINE).await;
        match dice % 8 {
            0 => {
                let gone = other.delete(&name(number)).await;
                assert_eq!(gone.is_ok(), self.0.remove(&number).is_some(), "{gone:?}");
            }
            1 => {
                let unbound = other.unbind(&name(number), &pattern(key)).await;
                let known = self.0.get_mut(&number).map(|queue| queue.0.remove(&key));
                assert_eq!(unbound.is_ok(), known.is_some(), "{unbound:?}");
            }
            2 => {
                other.declare(&QueueSpec::new(name(number))).await.unwrap();
                self.0.entry(number).or_default();
            }
            _ => {
                other.declare(&QueueSpec::new(name(number)).bind(pattern(key))).await.unwrap();
                self.0.entry(number).or_default().0.insert(key);
            }
        }
    }

    async fn publish(&mut self, bench: &Bench, key: u64) {
        let reached: Vec<_> = self.0.values_mut().filter(|queue| queue.0.contains(&key)).collect();
        let answer = bench.send(RoutingKey::new(format!("key.{key}")).unwrap(), Message::new("")).await;
        match &answer {
            Ok(_) => assert!(!reached.is_empty(), "key {key}"),
            Err(Error::NotFound { .. }) => assert!(reached.is_empty(), "key {key}"),
            Err(other) => panic!("{other:?}"),
        }
        reached.into_iter().for_each(|queue| queue.1 += 1);
    }

    async fn compare(&self, bench: &Bench, step: usize) {
        for (number, queue) in &self.0 {
            let stats = bench.queue.stats(&name(*number)).await.unwrap();
            assert_eq!(stats.ready, queue.1, "queue {number} after step {step}");
        }
    }
}

/// What others do to the keys of the catalogue.
async fn meddle(bench: &Bench, dice: u64) {
    match dice % 12 {
        0 => drop(bench.command::<u64>(&["DEL", "polyqueue:changes"]).await),
        1 => {
            // As a release wrote it that knew of no changes.
            let version: Option<String> = bench.command(&["GET", "polyqueue:ver"]).await;
            let Some(version) = version else { return };
            let epoch = version.split('.').next().unwrap();
            bench.command::<()>(&["SET", "polyqueue:ver", &format!("{epoch}.01a{dice:x}")]).await;
        }
        2 => drop(bench.command::<u64>(&["ZREMRANGEBYRANK", "polyqueue:changes", "0", "1"]).await),
        _ => {}
    }
}

#[tokio::test]
async fn whoever_follows_the_changes_reaches_what_the_whole_says() {
    let bench = Bench::start().await;
    for seed in [1, 2, 3] {
        let mut dice: u64 = seed;
        let mut model = Model::default();
        for step in 0..120 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            model.change(&bench, dice >> 20).await;
            meddle(&bench, dice >> 40).await;
            for key in 0..KEYS {
                model.publish(&bench, key).await;
            }
            model.compare(&bench, step).await;
        }
        let other = bench.another(DEADLINE).await;
        for number in model.0.keys() {
            other.delete(&name(*number)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_change_costs_what_has_changed_and_not_the_whole() {
    let bench = Bench::start().await;
    let other = bench.another(DEADLINE).await;
    for number in 0..200 {
        other.declare(&QueueSpec::new(name(number)).bind(pattern(0))).await.unwrap();
    }
    let topic = RoutingKey::new("key.0").unwrap();
    bench.send(topic.clone(), Message::new("")).await.unwrap();
    let before = calls(&bench, "hgetall").await;
    for number in 0..50 {
        other.delete(&name(number)).await.unwrap();
        other.declare(&QueueSpec::new(name(1000 + number)).bind(pattern(1))).await.unwrap();
        bench.send(topic.clone(), Message::new("")).await.unwrap();
    }
    assert_eq!(calls(&bench, "hgetall").await, before);
}
