//! What brokers can suffer beyond being processes: each fault is seen at the broker, and gone when healed.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueDeclareOptions,
};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use polyqueue_conformance::broker::{Broker, BrokerFaults, ProcessFaults, RabbitBroker, RedisBroker};
use polyqueue_conformance::{Fault, FaultKind, Faults, Policy, Right};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(10);

/// What Redis says to a write.
async fn written(redis: &RedisBroker) -> String {
    redis.command("SET key value").await.unwrap_or_else(|error| error.to_string())
}

#[tokio::test]
async fn redis_refuses_writes_in_each_way_until_healed() {
    let redis = Arc::new(RedisBroker::start().await.unwrap());
    let faults = BrokerFaults::new(redis.clone());
    for (fault, says) in [
        (Fault::OutOfMemory, "OOM"),
        (Fault::ReadOnly, "READONLY"),
        (Fault::DiskFull, "MISCONF"),
        (Fault::DenyPermission(Right::Write), "NOPERM"),
    ] {
        faults.apply(fault).await.unwrap();
        let answer = written(&redis).await;
        assert!(answer.contains(says), "{fault:?}: {answer}");
        faults.heal().await.unwrap();
        assert_eq!(written(&redis).await, "OK", "after {fault:?}");
    }
}

#[tokio::test]
async fn redis_loses_everything_or_its_scripts() {
    let redis = Arc::new(RedisBroker::start().await.unwrap());
    let faults = BrokerFaults::new(redis.clone());
    let script = redis.command("SCRIPT LOAD \"return 1\"").await.unwrap();
    assert_eq!(script, "40");
    let known = "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    assert_eq!(written(&redis).await, "OK");
    faults.apply(Fault::FlushScripts).await.unwrap();
    assert_eq!(redis.command("EXISTS key").await.unwrap(), "1");
    assert_eq!(redis.command(known).await.unwrap(), "1", "one answer follows");
    assert!(redis.command("EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0").await.is_err());
    faults.apply(Fault::Wipe).await.unwrap();
    assert_eq!(redis.command("EXISTS key").await.unwrap(), "0");
}

#[tokio::test]
async fn redis_limits_the_size_of_a_value_and_denies_reading() {
    let redis = Arc::new(RedisBroker::start().await.unwrap());
    let faults = BrokerFaults::new(redis.clone());
    faults.apply(Fault::SizeLimit(1 << 20)).await.unwrap();
    faults.apply(Fault::DenyPermission(Right::Read)).await.unwrap();
    assert!(redis.command("GET key").await.unwrap_err().to_string().contains("NOPERM"));
    faults.heal().await.unwrap();
    redis.command("GET key").await.unwrap();
}

#[tokio::test]
async fn what_redis_does_not_have_is_not_offered() {
    let redis: Arc<dyn Broker> = Arc::new(RedisBroker::start().await.unwrap());
    let faults = BrokerFaults::new(redis);
    let lacks = FaultKind::ALL.into_iter().filter(|&kind| !faults.offers(kind));
    let lacks: Vec<_> = lacks.collect();
    assert_eq!(lacks, [FaultKind::CloseChannels, FaultKind::Alarm, FaultKind::ClockShift, FaultKind::Policy]);
    let refused = faults.apply(Fault::Alarm).await.unwrap_err();
    assert!(refused.what().contains("does not offer Alarm"), "{refused}");
}

/// A channel with confirms, and a queue.
async fn rabbit_client(rabbit: &RabbitBroker) -> (Connection, Channel) {
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("q".into(), durable, Default::default()).await.unwrap();
    (connection, channel)
}

/// Whether a message is confirmed.
async fn published(channel: &Channel, bytes: usize) -> bool {
    let (options, body) = (BasicPublishOptions::default(), vec![7; bytes]);
    let sent = channel.basic_publish("".into(), "q".into(), options, &body, BasicProperties::default());
    match timeout(Duration::from_secs(1), async { sent.await?.await }).await {
        Ok(confirmed) => confirmed.is_ok_and(|it| it.is_ack()),
        Err(_) => false,
    }
}

async fn counted(channel: &Channel) -> Option<u32> {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    channel
        .queue_declare("q".into(), passive, Default::default())
        .await
        .ok()
        .map(|queue| queue.message_count())
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_suffers_each_of_its_faults_until_healed() {
    let rabbit = Arc::new(RabbitBroker::start().await.unwrap());
    let faults = BrokerFaults::new(rabbit.clone());
    let lacks: Vec<_> = FaultKind::ALL.into_iter().filter(|&kind| !faults.offers(kind)).collect();
    assert_eq!(
        lacks,
        [
            FaultKind::Rename,
            FaultKind::DestroyGroups,
            FaultKind::FlushScripts,
            FaultKind::OutOfMemory,
            FaultKind::ReadOnly,
            FaultKind::ClockShift
        ]
    );
    an_alarm_blocks(&rabbit, &faults).await;
    channels_are_closed(&rabbit, &faults).await;
    rights_are_denied(&rabbit, &faults).await;
    policies_apply(&rabbit, &faults).await;
    large_messages_are_refused(&rabbit, &faults).await;
    everything_is_gone(&rabbit, &faults).await;
}

async fn an_alarm_blocks(rabbit: &RabbitBroker, faults: &BrokerFaults) {
    for fault in [Fault::Alarm, Fault::DiskFull] {
        let (_connection, channel) = rabbit_client(rabbit).await;
        assert!(published(&channel, 10).await);
        faults.apply(fault).await.unwrap();
        assert!(!published(&channel, 10).await, "{fault:?}");
        faults.heal().await.unwrap();
        let (_connection, channel) = rabbit_client(rabbit).await;
        assert!(published(&channel, 10).await, "after {fault:?}");
    }
}

async fn channels_are_closed(rabbit: &RabbitBroker, faults: &BrokerFaults) {
    let (connection, channel) = rabbit_client(rabbit).await;
    let consuming =
        channel.basic_consume("q".into(), "c".into(), BasicConsumeOptions::default(), Default::default());
    consuming.await.unwrap();
    faults.apply(Fault::CloseChannels).await.unwrap();
    timeout(SOON, async {
        while channel.status().connected() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert!(connection.status().connected(), "the connection lives");
    connection.create_channel().await.unwrap();
}

async fn rights_are_denied(rabbit: &RabbitBroker, faults: &BrokerFaults) {
    for right in [Right::Configure, Right::Write, Right::Read] {
        faults.apply(Fault::DenyPermission(right)).await.unwrap();
        let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let denied = match right {
            Right::Configure => {
                channel.queue_declare("another".into(), Default::default(), Default::default()).await.is_err()
            }
            Right::Write => !published(&channel, 10).await,
            Right::Read => channel
                .basic_consume("q".into(), "c".into(), BasicConsumeOptions::default(), Default::default())
                .await
                .is_err(),
        };
        assert!(denied, "{right:?}");
        faults.heal().await.unwrap();
        rabbit_client(rabbit).await;
    }
}

async fn policies_apply(rabbit: &RabbitBroker, faults: &BrokerFaults) {
    for (policy, left) in [
        (Policy::MaxLength(2), Some(2)),
        (Policy::MessageTtl(Duration::from_millis(1)), Some(0)),
        (Policy::Expires(Duration::from_millis(100)), None),
    ] {
        let (_connection, channel) = rabbit_client(rabbit).await;
        channel.queue_purge("q".into(), Default::default()).await.unwrap();
        faults.apply(Fault::Policy(policy)).await.unwrap();
        for _ in 0..5 {
            // A queue that expires may be gone already.
            published(&channel, 10).await;
        }
        let seen = timeout(SOON, async {
            loop {
                // A channel that has asked for what is not there is closed; and whoever asks uses the queue.
                sleep(Duration::from_millis(500)).await;
                let connection = Connection::connect(&rabbit.url(), Default::default()).await.unwrap();
                if counted(&connection.create_channel().await.unwrap()).await == left {
                    return;
                }
            }
        });
        seen.await.unwrap_or_else(|_| panic!("{policy:?}"));
        faults.heal().await.unwrap();
    }
}

async fn large_messages_are_refused(rabbit: &RabbitBroker, faults: &BrokerFaults) {
    faults.apply(Fault::SizeLimit(1_000)).await.unwrap();
    let (_connection, channel) = rabbit_client(rabbit).await;
    assert!(published(&channel, 900).await);
    assert!(!published(&channel, 1_100).await);
    faults.heal().await.unwrap();
}

async fn everything_is_gone(rabbit: &RabbitBroker, faults: &BrokerFaults) {
    let (_connection, channel) = rabbit_client(rabbit).await;
    let exchange = ExchangeDeclareOptions::default();
    channel.exchange_declare("e".into(), ExchangeKind::Topic, exchange, Default::default()).await.unwrap();
    faults.apply(Fault::Wipe).await.unwrap();
    let list = "{length(rabbit_amqqueue:list()), [R || {resource, _, exchange, R} <- rabbit_exchange:list_names(), \
                binary:longest_common_prefix([R, <<\"amq.\">>]) < 4, R =/= <<>>]}";
    assert_eq!(rabbit.eval(list).await.unwrap(), "{0,[]}");
    rabbit_client(rabbit).await;
}

#[tokio::test]
async fn a_command_is_killed_stopped_paused_and_started_on_its_port_and_directory() {
    let broker = ProcessFaults::new("redis-server --port {port} --dir {dir} --appendonly yes")
        .url("redis://127.0.0.1:{port}/")
        .ready_when(|address| async move { answers(address).await })
        .own(FaultKind::Wipe, |_, _| async { Err("it says no".into()) });
    let broker = broker.start().await.unwrap();
    let (port, pid) = (broker.port(), broker.pid());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(broker.url(), format!("redis://127.0.0.1:{port}/"));
    let faults = BrokerFaults::new(broker.clone());
    for fault in [Fault::Kill9, Fault::StopGracefully] {
        faults.apply(fault).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "{fault:?}");
        faults.heal().await.unwrap();
        assert!(answers(address).await, "{fault:?}");
    }
    assert_ne!(broker.pid(), pid);
    faults.apply(Fault::Pause).await.unwrap();
    assert!(timeout(Duration::from_millis(200), answers(address)).await.is_err());
    faults.heal().await.unwrap();
    assert!(answers(address).await);
    assert!(faults.apply(Fault::Wipe).await.unwrap_err().what().contains("it says no"));
    assert!(!faults.offers(FaultKind::Alarm));
}

async fn answers(address: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\nQUIT\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with("+PONG"))
    };
    asked.await.unwrap_or(false)
}

#[tokio::test]
async fn a_command_that_does_not_exist_or_ends_at_once_says_so() {
    let missing = ProcessFaults::new("no-such-broker-anywhere {port}").start().await.unwrap_err();
    assert!(missing.to_string().contains("no-such-broker-anywhere"), "{missing}");
    let wrong = ProcessFaults::new("redis-server --no-such-option {port}").start().await.unwrap_err();
    assert!(wrong.to_string().contains("no-such-option"), "{wrong}");
}
