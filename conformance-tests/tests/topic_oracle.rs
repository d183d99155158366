//! Routing keys and patterns mean what they mean to RabbitMQ: a real topic exchange is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use polyqueue::{Pattern, RoutingKey};
use polyqueue_conformance::Rng;
use polyqueue_conformance::broker::{Broker, RabbitBroker};

const PATTERNS: usize = 50;
const KEYS: usize = 40;
const EXCHANGE: &str = "oracle";
/// Sent after all keys: a queue that got it has got all before it.
const LAST: &str = "the end of it";

/// Up to four words of a small alphabet, so that pairs often nearly match.
fn text(rng: &mut Rng, alphabet: &[&str]) -> String {
    let words = 1 + rng.below(4);
    let words: Vec<&str> = (0..words).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect();
    words.join(".")
}

fn some(rng: &mut Rng, n: usize, alphabet: &[&str]) -> BTreeSet<String> {
    let mut all = BTreeSet::from([String::new()]);
    while all.len() < n {
        all.insert(text(rng, alphabet));
    }
    all
}

/// A queue of its own for each pattern, with everything that the exchange gives it.
async fn bound(channel: &Channel, patterns: &BTreeSet<String>) -> lapin::Result<BTreeMap<String, String>> {
    let exchange = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, exchange, FieldTable::default()).await?;
    let mut queues = BTreeMap::new();
    for pattern in patterns {
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
        let (name, options) = (queue.name().as_str(), QueueBindOptions::default());
        for key in [pattern.as_str(), LAST] {
            let (to, key) = (name.into(), key.into());
            channel.queue_bind(to, EXCHANGE.into(), key, options, FieldTable::default()).await?;
        }
        queues.insert(pattern.clone(), name.to_owned());
    }
    Ok(queues)
}

async fn publish(channel: &Channel, key: &str) -> lapin::Result<()> {
    let properties = BasicProperties::default();
    let options = BasicPublishOptions::default();
    let sent =
        channel.basic_publish(EXCHANGE.into(), key.into(), options, key.as_bytes(), properties).await?;
    sent.await.map(drop)
}

async fn came(channel: &Channel, queue: &str) -> lapin::Result<BTreeSet<String>> {
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    let mut keys = BTreeSet::new();
    while let Some(delivery) = consumer.next().await {
        let key = String::from_utf8_lossy(&delivery?.data).into_owned();
        if key == LAST {
            break;
        }
        assert!(keys.insert(key.clone()), "{key:?} came twice to {queue}");
    }
    Ok(keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_pairs_match_as_a_topic_exchange_has_it() {
    let node = RabbitBroker::start().await.expect("a private node");
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_090_817);
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let patterns = some(&mut rng, PATTERNS, &["a", "b", "", "*", "#"]);
    let keys = some(&mut rng, KEYS, &["a", "b", "", "*", "#", "c"]);
    assert!(patterns.len() * keys.len() >= 2000);
    let asked = async {
        let connection = Connection::connect(&node.url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let queues = bound(&channel, &patterns).await?;
        for key in keys.iter().map(String::as_str).chain([LAST]) {
            publish(&channel, key).await?;
        }
        let mut answers = BTreeMap::new();
        for (pattern, queue) in queues {
            answers.insert(pattern, came(&channel, &queue).await?);
        }
        Ok::<_, lapin::Error>(answers)
    };
    let answers = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("an answer").unwrap();
    let mut matched = 0;
    for (pattern, came) in &answers {
        for key in &keys {
            let ours = Pattern::new(pattern).unwrap().matches(&RoutingKey::new(key).unwrap());
            assert_eq!(ours, came.contains(key), "{pattern:?} and {key:?}");
            matched += usize::from(ours);
        }
    }
    // Neither side may have it easy.
    let pairs = patterns.len() * keys.len();
    assert!(matched * 20 > pairs && matched * 20 < pairs * 19, "{matched} of {pairs} match");
    println!("{matched} of {pairs} pairs match");
}
