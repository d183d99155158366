use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(100);

/// A proxy in front of a server that sends back what it gets.
async fn proxied_echo() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Proxy::start(port).unwrap()
}

async fn client(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap()
}

async fn echo(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; text.len()];
    timeout(SOON, stream.read_exact(&mut answer)).await.expect("an echo").unwrap();
    String::from_utf8(answer).unwrap()
}

/// What still arrives until the connection ends.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("an end");
    rest
}

#[tokio::test]
async fn passes_both_ways_and_counts() {
    let proxy = proxied_echo().await;
    let mut stream = client(&proxy).await;
    assert_eq!(echo(&mut stream, "hello").await, "hello");
    assert_eq!(proxy.traffic(), Traffic { connections: 1, open: 1, to_broker: 5, to_client: 5, cuts: 0 });
}

#[tokio::test]
async fn the_end_of_one_side_reaches_the_other() {
    let proxy = proxied_echo().await;
    let mut stream = client(&proxy).await;
    stream.write_all(b"last").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, b"last");
}

#[tokio::test]
async fn a_cut_ends_what_is_open_and_nothing_else() {
    let proxy = proxied_echo().await;
    let mut before = client(&proxy).await;
    echo(&mut before, "x").await;
    proxy.cut();
    assert_eq!(rest(&mut before).await, b"");
    let mut after = client(&proxy).await;
    assert_eq!(echo(&mut after, "y").await, "y");
    assert_eq!(proxy.traffic().cuts, 1);
}

#[tokio::test]
async fn cuts_after_the_very_byte() {
    for allowed in [0, 1, 7] {
        let proxy = proxied_echo().await;
        let mut stream = client(&proxy).await;
        echo(&mut stream, "before").await;
        proxy.cut_after(Direction::ToClient, allowed);
        let _ = stream.write_all(b"0123456789").await;
        assert_eq!(rest(&mut stream).await, &b"0123456789"[..allowed as usize]);
        assert_eq!(proxy.traffic().to_client, 6 + allowed);
        assert_eq!(proxy.traffic().cuts, 1);
    }
}

#[tokio::test]
async fn a_cut_towards_the_broker_lets_it_see_no_more() {
    let proxy = proxied_echo().await;
    let mut stream = client(&proxy).await;
    echo(&mut stream, "before").await;
    proxy.cut_after(Direction::ToBroker, 3);
    let _ = stream.write_all(b"0123456789").await;
    rest(&mut stream).await;
    assert_eq!(proxy.traffic().to_broker, 9);
    assert_eq!(echo(&mut client(&proxy).await, "after").await, "after");
}

#[tokio::test]
async fn accepts_closes_and_counts_until_healed() {
    let proxy = proxied_echo().await;
    let mut open = client(&proxy).await;
    echo(&mut open, "x").await;
    proxy.accept_and_close();
    let before = Instant::now();
    assert_eq!(rest(&mut client(&proxy).await).await, b"");
    assert_eq!(echo(&mut open, "still").await, "still");
    proxy.heal();
    assert_eq!(echo(&mut client(&proxy).await, "again").await, "again");
    assert_eq!(proxy.traffic().connections, 3);
    let attempts = proxy.attempts();
    assert!(attempts.is_sorted() && attempts[0] < before && before <= attempts[1], "{attempts:?}");
}

#[tokio::test]
async fn the_port_refuses_until_healed_and_stays_the_same() {
    let proxy = proxied_echo().await;
    let mut open = client(&proxy).await;
    echo(&mut open, "x").await;
    for _ in 0..3 {
        proxy.refuse();
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!(echo(&mut open, "still").await, "still");
        proxy.heal();
        assert_eq!(echo(&mut client(&proxy).await, "again").await, "again");
    }
    assert_eq!(proxy.traffic().connections, 4);
}

#[tokio::test]
async fn a_slow_line_carries_so_many_bytes_a_second_both_ways_until_healed() {
    let proxy = proxied_echo().await;
    let mut stream = client(&proxy).await;
    echo(&mut stream, "x").await;
    proxy.slow(1_000);
    let start = Instant::now();
    echo(&mut stream, &"slow".repeat(50)).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(200), "200 bytes, 1000 a second: {took:?}");
    proxy.slow(10);
    stream.write_all(&[b'x'; 500]).await.unwrap();
    let mut answer = [0; 500];
    assert!(timeout(A_WHILE, stream.read_exact(&mut answer)).await.is_err(), "50 s");
    proxy.heal();
    let mut rest = Vec::new();
    stream.shutdown().await.unwrap();
    timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.iter().all(|&byte| byte == b'x') && rest.len() > 450, "{}", rest.len());
}

#[tokio::test]
async fn delays_each_chunk() {
    let proxy = proxied_echo().await;
    let mut stream = client(&proxy).await;
    proxy.delay(A_WHILE);
    let start = Instant::now();
    echo(&mut stream, "slow").await;
    assert!(start.elapsed() >= 2 * A_WHILE, "once each way: {:?}", start.elapsed());
}

#[tokio::test]
async fn a_half_open_connection_is_silent_until_healed() {
    for direction in [Direction::ToBroker, Direction::ToClient] {
        let proxy = proxied_echo().await;
        let mut stream = client(&proxy).await;
        echo(&mut stream, "x").await;
        proxy.swallow(direction);
        stream.write_all(b"late").await.unwrap();
        let mut answer = [0; 4];
        assert!(timeout(A_WHILE, stream.read_exact(&mut answer)).await.is_err(), "{direction:?}");
        proxy.heal();
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"late");
    }
}

#[tokio::test]
async fn ends_with_its_value() {
    let proxy = proxied_echo().await;
    let port = proxy.port();
    let mut stream = client(&proxy).await;
    echo(&mut stream, "x").await;
    drop(proxy);
    assert_eq!(rest(&mut stream).await, b"");
    timeout(SOON, async { while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {} }).await.unwrap();
}

#[test]
fn a_broker_url_is_led_through_the_proxy() {
    let proxy = Proxy::start(5672).unwrap();
    let url = proxy.through("amqp://guest:guest@127.0.0.1:5672/%2f");
    assert_eq!(url, format!("amqp://guest:guest@127.0.0.1:{}/%2f", proxy.port()));
}
