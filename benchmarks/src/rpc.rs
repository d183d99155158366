//! Request and reply: a round trip through requester and worker beside one raw message from publish to consumer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use polyqueue::{
    Bytes, ConnectOptions, HandlerOptions, Job, Message, Provider, Queue, QueueExt, QueueName, Requester,
    Worker, with,
};
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, Client};
use tokio::runtime::{self, Handle};
use tokio::sync::{mpsc, oneshot};

use crate::measure::percentile;
use crate::rabbitmq::{prepare, properties};
use crate::{Outcome, PAYLOAD, ROUNDS, ours};

const TRIPS: usize = 200;
const PAUSE: Duration = Duration::from_millis(3);
const TIMEOUT: Duration = Duration::from_secs(5);
const WANTED: f64 = 3.0;
const RAW: &str = "bench-raw-trip";

/// Who asks and who answers, who publishes and who consumes, are two services: a handle and a runtime each.
pub(crate) async fn run() -> Outcome {
    let elsewhere = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = duels(elsewhere.handle()).await;
    elsewhere.shutdown_background();
    outcome
}

async fn duels(elsewhere: &Handle) -> Outcome {
    if let Ok(url) = std::env::var("REDIS_URL") {
        let raw = RedisTrip::open(&url, elsewhere).await?;
        duel(polyqueue_redis::PROVIDER, &url, Raw::Redis(raw), elsewhere).await?;
    }
    if let Ok(url) = std::env::var("RABBITMQ_URL") {
        let raw = RabbitTrip::open(&url, elsewhere).await?;
        duel(polyqueue_rabbitmq::PROVIDER, &url, Raw::Rabbit(Box::new(raw)), elsewhere).await?;
    }
    Ok(())
}

async fn duel(provider: Provider, url: &str, mut raw: Raw, elsewhere: &Handle) -> Outcome {
    let connect = |url: &str| {
        let options = ConnectOptions::new(url).namespace("bench-rpc");
        async move { provider.connect(options).await }
    };
    let (queue, service) = (connect(url).await?, elsewhere.spawn(connect(url)).await??);
    let name = ours::declared(&queue).await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let echo = with(service.clone(), async |queue: Arc<dyn Queue>, job: Job<Bytes>| {
        queue.reply(&job.message, Message::new(job.payload)).await?;
        Ok(())
    });
    let worker = Worker::new(service.clone()).on_others_with(echo, HandlerOptions::new());
    let worker = elsewhere.spawn(worker.run([name.clone()], stopped));
    let requester = Requester::open(queue.clone()).await?;
    let (mut one_way, mut round) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..TRIPS {
            tokio::time::sleep(PAUSE).await;
            one_way.push(raw.trip().await?);
        }
        for _ in 0..TRIPS {
            tokio::time::sleep(PAUSE).await;
            round.push(ask(&requester, &name).await?);
        }
    }
    let (ours, raw) = (percentile(&round, 0.5), percentile(&one_way, 0.5));
    let verdict = if ours <= WANTED * raw { "reached" } else { "MISSED" };
    println!(
        "{:<32} p50 {ours:.2} ms, p99 {:.2} ms   raw one way p50 {raw:.2} ms   ratio {:.2} (wanted at most {WANTED}: {verdict})",
        format!("{} request and reply", provider.name()),
        percentile(&round, 0.99),
        ours / raw,
    );
    drop(stop);
    worker.await??;
    queue.delete(&name).await?;
    service.close().await?;
    queue.close().await?;
    Ok(())
}

async fn ask(requester: &Requester, name: &QueueName) -> Outcome<f64> {
    let began = Instant::now();
    requester.ask(name, Message::new(vec![b'x'; PAYLOAD]), TIMEOUT).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// One raw message from publish to a consumer that waits on a connection of its own; in milliseconds.
enum Raw {
    Redis(RedisTrip),
    Rabbit(Box<RabbitTrip>),
}

impl Raw {
    async fn trip(&mut self) -> Outcome<f64> {
        let began = Instant::now();
        let arrived = match self {
            Self::Redis(raw) => raw.trip().await?,
            Self::Rabbit(raw) => raw.trip().await?,
        };
        Ok(arrived.duration_since(began).as_secs_f64() * 1e3)
    }
}

struct RedisTrip {
    publisher: redis::aio::MultiplexedConnection,
    arrivals: mpsc::UnboundedReceiver<Instant>,
}

impl RedisTrip {
    async fn open(url: &str, elsewhere: &Handle) -> Outcome<Self> {
        let client = Client::open(url)?;
        let mut publisher = client.get_multiplexed_async_connection().await?;
        let _: () = publisher.del(RAW).await?;
        let _: () = publisher.xgroup_create_mkstream(RAW, "g", "0").await?;
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let (arrived, arrivals) = mpsc::unbounded_channel();
        elsewhere.spawn(async move {
            let mut consumer = client.get_multiplexed_async_connection_with_config(&config).await?;
            let options = StreamReadOptions::default().group("g", "c").count(1).block(0);
            while let Ok(reply) =
                consumer.xread_options::<_, _, StreamReadReply>(&[RAW], &[">"], &options).await
            {
                if arrived.send(Instant::now()).is_err() {
                    break;
                }
                let ids: Vec<String> =
                    reply.keys.into_iter().flat_map(|key| key.ids).map(|entry| entry.id).collect();
                consumer.xack::<_, _, _, usize>(RAW, "g", &ids).await?;
            }
            Outcome::Ok(())
        });
        Ok(Self { publisher, arrivals })
    }

    async fn trip(&mut self) -> Outcome<Instant> {
        let payload = vec![b'x'; PAYLOAD];
        let _: String = self.publisher.xadd(RAW, "*", &[("data", &payload)]).await?;
        Ok(self.arrivals.recv().await.ok_or("the raw consumer ended")?)
    }
}

struct RabbitTrip {
    publisher: lapin::Channel,
    arrivals: mpsc::UnboundedReceiver<Instant>,
    _connections: [Connection; 2],
}

impl RabbitTrip {
    async fn open(url: &str, elsewhere: &Handle) -> Outcome<Self> {
        let connect =
            |url: String| async move { Connection::connect(&url, ConnectionProperties::default()).await };
        let publishing = connect(url.to_owned()).await?;
        let consuming = elsewhere.spawn(connect(url.to_owned())).await??;
        let (publisher, channel) = (publishing.create_channel().await?, consuming.create_channel().await?);
        prepare(&publisher, RAW).await?;
        let options = BasicConsumeOptions::default();
        let mut consumer =
            channel.basic_consume(RAW.into(), "".into(), options, FieldTable::default()).await?;
        let (arrived, arrivals) = mpsc::unbounded_channel();
        elsewhere.spawn(async move {
            while let Some(delivery) = consumer.next().await.transpose()? {
                if arrived.send(Instant::now()).is_err() {
                    break;
                }
                delivery.ack(BasicAckOptions::default()).await?;
            }
            Outcome::Ok(())
        });
        Ok(Self { publisher, arrivals, _connections: [publishing, consuming] })
    }

    async fn trip(&mut self) -> Outcome<Instant> {
        let (payload, options) = (vec![b'x'; PAYLOAD], BasicPublishOptions::default());
        let confirmed =
            self.publisher.basic_publish("".into(), RAW.into(), options, &payload, properties()).await?;
        let arrived = self.arrivals.recv().await.ok_or("the raw consumer ended")?;
        confirmed.await?;
        Ok(arrived)
    }
}
