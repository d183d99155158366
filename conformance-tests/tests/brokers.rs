//! The private brokers do what the fault cases rely on: real processes are killed, frozen, restarted and orphaned.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use polyqueue_conformance::broker::{Broker, BrokerError, RabbitBroker, RedisBroker};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(10);

fn pid(raw: u32) -> Pid {
    Pid::from_raw(raw as i32).unwrap()
}

fn refuses(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn redis_keeps_its_data_over_kill_and_stop() {
    let redis = RedisBroker::start().await.unwrap();
    redis.command("SET key kept").await.unwrap();
    let first = redis.pid();
    redis.kill9().await.unwrap();
    assert!(refuses(redis.port()));
    assert_eq!(redis.pid(), None);
    assert!(redis.freeze().is_err());
    redis.start_again().await.unwrap();
    assert_ne!(redis.pid(), first);
    assert_eq!(redis.command("EXISTS key").await.unwrap(), "1");
    redis.stop_gracefully().await.unwrap();
    assert!(refuses(redis.port()));
    redis.start_again().await.unwrap();
    assert_eq!(redis.command("EXISTS key").await.unwrap(), "1");
}

#[tokio::test]
async fn every_order_to_redis_may_be_given_twice() {
    let redis = RedisBroker::start().await.unwrap();
    redis.start_again().await.unwrap();
    redis.kill9().await.unwrap();
    redis.kill9().await.unwrap();
    redis.stop_gracefully().await.unwrap();
    redis.start_again().await.unwrap();
    assert_eq!(redis.command("PING").await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_paused_redis_is_silent_and_then_answers() {
    let redis = RedisBroker::start().await.unwrap();
    let start = Instant::now();
    let pause = redis.pause(Duration::from_millis(300));
    let ping = async {
        sleep(Duration::from_millis(50)).await;
        redis.command("PING").await
    };
    let (paused, answer) = tokio::join!(pause, ping);
    paused.unwrap();
    assert_eq!(answer.unwrap(), "PONG");
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn redis_closes_the_connections_of_its_clients() {
    let redis = RedisBroker::start().await.unwrap();
    let mut client = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port())).await.unwrap();
    redis.close_all_connections().await.unwrap();
    assert!(timeout(SOON, client.read_u8()).await.unwrap().is_err());
}

#[tokio::test]
async fn redis_takes_options_and_says_no() {
    let redis = RedisBroker::start_with(&["--maxmemory", "1"]).await.unwrap();
    let refused = redis.command("SET key value").await.unwrap_err();
    assert!(
        matches!(refused, BrokerError::Refused { ref answer, .. } if answer.contains("OOM")),
        "{refused}"
    );
    let wrong = RedisBroker::start_with(&["--no-such-option", "1"]).await.unwrap_err();
    assert!(matches!(wrong, BrokerError::Died { ref log, .. } if log.contains("no-such-option")), "{wrong}");
}

#[tokio::test]
async fn a_dropped_redis_is_gone() {
    let redis = RedisBroker::start().await.unwrap();
    let (process, port) = (pid(redis.pid().unwrap()), redis.port());
    redis.freeze().unwrap();
    drop(redis);
    assert!(test_kill_process(process).is_err());
    assert!(refuses(port));
}

/// What `polyqueue-brokers` was started with, and its first line: `export REDIS_URL='…'`.
async fn launch(arguments: &[&str]) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_polyqueue-brokers"))
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    (child, line)
}

fn port_in(line: &str) -> u16 {
    let (_, rest) = line.split_once("127.0.0.1:").unwrap();
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

async fn ask_redis(port: u16, command: &str) -> String {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_broker_does_not_outlive_a_killed_parent_even_when_it_is_frozen() {
    for frozen in [false, true] {
        let (mut parent, line) = launch(&["redis"]).await;
        let port = port_in(&line);
        let info = ask_redis(port, "INFO server").await;
        let process =
            info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().parse().unwrap();
        let directory = ask_redis(port, "CONFIG GET dir").await;
        let directory = directory.lines().find(|line| line.starts_with('/')).unwrap().to_owned();
        assert!(Path::new(&directory).exists());
        if frozen {
            kill_process(pid(process), Signal::STOP).unwrap();
        }
        parent.kill().await.unwrap();
        eventually("the broker dies", || refuses(port)).await;
        eventually("its data is removed", || !Path::new(&directory).exists()).await;
    }
}

#[tokio::test]
async fn brokers_end_with_sigterm() {
    let (mut parent, line) = launch(&["redis"]).await;
    assert!(line.starts_with("export REDIS_URL='redis://127.0.0.1:"), "{line}");
    kill_process(pid(parent.id().unwrap()), Signal::TERM).unwrap();
    assert!(timeout(SOON, parent.wait()).await.unwrap().unwrap().success());
    assert!(refuses(port_in(&line)));
}

#[tokio::test]
async fn a_command_gets_the_url_and_gives_the_status() {
    let (mut parent, line) = launch(&["redis", "--", "sh", "-c", "echo $REDIS_URL; exit 7"]).await;
    assert_eq!(timeout(SOON, parent.wait()).await.unwrap().unwrap().code(), Some(7));
    assert!(refuses(port_in(&line)));
}

#[tokio::test]
async fn a_signal_is_passed_on_to_the_command() {
    let (mut parent, line) = launch(&["redis", "--", "sh", "-c", "echo $REDIS_URL; exec sleep 100"]).await;
    kill_process(pid(parent.id().unwrap()), Signal::TERM).unwrap();
    assert_eq!(timeout(SOON, parent.wait()).await.unwrap().unwrap().code(), Some(128 + 15));
    assert!(refuses(port_in(&line)));
}

#[tokio::test]
async fn an_unknown_broker_is_a_usage_error() {
    let (mut parent, line) = launch(&["kafka"]).await;
    assert_eq!(line, "");
    assert_eq!(parent.wait().await.unwrap().code(), Some(2));
}

async fn connect(rabbit: &RabbitBroker) -> (Connection, Channel) {
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

async fn put(channel: &Channel) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("kept".into(), options, Default::default()).await.unwrap();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let confirm =
        channel.basic_publish("".into(), "kept".into(), options, b"body", properties).await.unwrap();
    assert!(confirm.await.unwrap().is_ack());
}

/// Whether the one message is there; looking leaves it in the queue.
async fn is_kept(rabbit: &RabbitBroker) -> bool {
    let (connection, channel) = connect(rabbit).await;
    let kept = channel.basic_get("kept".into(), BasicGetOptions::default()).await.unwrap().is_some();
    connection.close(200, "done".into()).await.unwrap();
    kept
}

async fn loses_its_connection(connection: &Connection) {
    eventually("the connection is closed", || !connection.status().connected()).await;
}

async fn timed<T>(what: &str, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let result = work.await;
    eprintln!("{what}: {} ms", start.elapsed().as_millis());
    result
}

/// One long test, for a node takes seconds to boot.
#[tokio::test]
async fn rabbitmq_keeps_durable_messages_over_every_kind_of_restart() {
    let rabbit = timed("boot", RabbitBroker::start()).await.unwrap();
    let (connection, channel) = connect(&rabbit).await;
    put(&channel).await;

    timed("close all connections", rabbit.close_all_connections()).await.unwrap();
    loses_its_connection(&connection).await;
    assert!(is_kept(&rabbit).await);

    let (connection, _channel) = connect(&rabbit).await;
    let machine = rabbit.pid();
    timed("graceful stop", rabbit.stop_gracefully()).await.unwrap();
    loses_its_connection(&connection).await;
    assert!(refuses(rabbit.port()));
    rabbit.stop_gracefully().await.unwrap();
    timed("start after a graceful stop", rabbit.start_again()).await.unwrap();
    rabbit.start_again().await.unwrap();
    assert_eq!(rabbit.pid(), machine, "the Erlang machine stays");
    assert!(is_kept(&rabbit).await);

    let (connection, _channel) = connect(&rabbit).await;
    timed("kill -9", rabbit.kill9()).await.unwrap();
    loses_its_connection(&connection).await;
    assert!(refuses(rabbit.port()));
    assert!(matches!(rabbit.eval("1 + 1").await, Err(BrokerError::Down { .. })));
    timed("start after kill -9", rabbit.start_again()).await.unwrap();
    assert!(is_kept(&rabbit).await);

    let pause = rabbit.pause(Duration::from_millis(500));
    let asked = async {
        sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        assert!(is_kept(&rabbit).await);
        start.elapsed()
    };
    let (paused, waited) = tokio::join!(pause, asked);
    paused.unwrap();
    assert!(waited >= Duration::from_millis(350), "{waited:?}");

    let (process, port) = (pid(rabbit.pid().unwrap()), rabbit.port());
    drop(rabbit);
    assert!(test_kill_process(process).is_err());
    assert!(refuses(port));
}

#[tokio::test]
async fn rabbitmq_evaluates_erlang() {
    let rabbit = RabbitBroker::start().await.unwrap();
    assert_eq!(rabbit.eval("X = 20,\nX + 1").await.unwrap(), "21");
    let refused = rabbit.eval("error(on_purpose)").await.unwrap_err();
    assert!(
        matches!(refused, BrokerError::Refused { ref answer, .. } if answer.contains("on_purpose")),
        "{refused}"
    );
    assert!(matches!(rabbit.eval("1 +").await, Err(BrokerError::Refused { .. })));
    let (slow, fast) = tokio::join!(rabbit.eval("timer:sleep(200), slow"), rabbit.eval("fast"));
    assert_eq!((slow.unwrap().as_str(), fast.unwrap().as_str()), ("slow", "fast"));
    let outside = "[A || {_, _, _, _, A, _, _} <- rabbit_networking:active_listeners(), A =/= {127,0,0,1}]";
    assert_eq!(rabbit.eval(outside).await.unwrap(), "[]");
}
