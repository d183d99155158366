//! Encrypted connections to a real broker: who is trusted, who is not, and what is said then.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polyqueue::{
    Certainty, ConnectOptions, Error, Message, Queue, QueueExt, QueueName, Result, Subscription, TlsOptions,
    Verdict,
};
use polyqueue_conformance::broker::{Broker, Certificate, CertificateAuthority, Encryption, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

const Q: QueueName = QueueName::from_static("q");
const HERE: &str = "DNS:localhost,IP:127.0.0.1";
const SOON: Duration = Duration::from_secs(10);

async fn server(certificate: Certificate, clients: Option<&CertificateAuthority>) -> RabbitBroker {
    let encryption = Encryption { certificate, clients: clients.map(CertificateAuthority::cert) };
    RabbitBroker::start_encrypted(&encryption).await.unwrap()
}

fn url(broker: &RabbitBroker, host: &str) -> String {
    format!("amqps://guest:guest@{host}:{}", broker.encrypted_port().unwrap())
}

async fn connect(url: String, tls: TlsOptions) -> Result<Arc<dyn Queue>> {
    PROVIDER.connect(ConnectOptions::new(url).tls(tls)).await
}

fn trusting(ca: &Path) -> TlsOptions {
    TlsOptions::default().ca(ca)
}

async fn pass_one_through(queue: &Arc<dyn Queue>, text: &'static str) {
    queue.publish_one(Q, Message::new(text)).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    let delivery = consumer.receive(1, SOON).await.unwrap().pop().unwrap();
    assert_eq!(delivery.message.payload(), text);
    consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await.unwrap();
}

/// Refused at once, for good, and saying why.
async fn refused(url: String, tls: TlsOptions, says: &str) {
    let began = Instant::now();
    let error = connect(url, tls).await.unwrap_err();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert_eq!((error.certainty(), error.is_transient()), (Certainty::Definite, false), "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(!format!("{error}{error:?}").contains("guest"), "{error:?}");
}

#[tokio::test]
async fn with_a_trusted_server_all_works_also_after_a_cut_and_a_restart() {
    let ca = CertificateAuthority::new().unwrap();
    let broker = server(ca.sign("server", HERE).unwrap(), None).await;
    let in_url = format!("{}?ca={}", url(&broker, "localhost"), ca.cert().display());
    let queue = connect(in_url, TlsOptions::default()).await.unwrap();
    queue.declare(&Q.into()).await.unwrap();
    pass_one_through(&queue, "first").await;
    broker.close_all_connections().await.unwrap();
    works_again(&queue).await;
    broker.kill9().await.unwrap();
    broker.start_again().await.unwrap();
    works_again(&queue).await;
    queue.close().await.unwrap();
}

async fn works_again(queue: &Arc<dyn Queue>) {
    let began = Instant::now();
    while let Err(error) = queue.declare(&Q.into()).await {
        assert!(began.elapsed() < SOON, "{error}");
        sleep(SOON / 100).await;
    }
    pass_one_through(queue, "again").await;
}

#[tokio::test]
async fn much_that_comes_at_once_is_read_whole() {
    let ca = CertificateAuthority::new().unwrap();
    let broker = server(ca.sign("server", HERE).unwrap(), None).await;
    let queue = connect(url(&broker, "127.0.0.1"), trusting(&ca.cert())).await.unwrap();
    queue.declare(&Q.into()).await.unwrap();
    let payload = |nth: usize| vec![nth as u8; 100_000];
    let batch = (0..40).map(|nth| Message::new(payload(nth))).collect();
    for answer in queue.publish(&Q.into(), batch).await.unwrap() {
        answer.unwrap();
    }
    let consumer = queue.subscribe(&Subscription::new(Q).prefetch(40)).await.unwrap();
    let mut read = 0;
    while read < 40 {
        for delivery in consumer.receive(40, SOON).await.unwrap() {
            assert_eq!(delivery.message.payload(), &payload(read)[..]);
            read += 1;
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_who_it_should_be_is_refused() {
    let (ca, other) = (CertificateAuthority::new().unwrap(), CertificateAuthority::new().unwrap());
    let broker = server(ca.sign("server", "DNS:localhost").unwrap(), None).await;
    refused(url(&broker, "localhost"), trusting(&other.cert()), "signed by no CA that is trusted here").await;
    refused(url(&broker, "localhost"), TlsOptions::default(), "signed by no CA that is trusted here").await;
    refused(url(&broker, "127.0.0.1"), trusting(&ca.cert()), "not for 127.0.0.1").await;
    let named = || trusting(&ca.cert()).server_name("localhost");
    connect(url(&broker, "127.0.0.1"), named()).await.unwrap();
    let named = trusting(&ca.cert()).server_name("elsewhere.example");
    refused(url(&broker, "localhost"), named, "not for elsewhere.example").await;
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused() {
    let ca = CertificateAuthority::new().unwrap();
    let broker = server(ca.sign_expired("server", HERE).unwrap(), None).await;
    refused(url(&broker, "localhost"), trusting(&ca.cert()), "has expired").await;
}

#[tokio::test]
async fn a_server_that_requires_a_client_certificate_gets_it_or_says_so() {
    let (ca, other) = (CertificateAuthority::new().unwrap(), CertificateAuthority::new().unwrap());
    let broker = server(ca.sign("server", HERE).unwrap(), Some(&ca)).await;
    let with = |it: Certificate| trusting(&ca.cert()).client_certificate(it.cert, it.key);
    let good = ca.sign("client", "DNS:client").unwrap();
    let queue = connect(url(&broker, "localhost"), with(good)).await.unwrap();
    queue.declare(&Q.into()).await.unwrap();
    pass_one_through(&queue, "known").await;
    // The server's refusal comes after the handshake, beside what is sent meanwhile.
    for _ in 0..20 {
        refused(url(&broker, "localhost"), trusting(&ca.cert()), "requires a client certificate").await;
    }
    let foreign = other.sign("client", "DNS:client").unwrap();
    refused(url(&broker, "localhost"), with(foreign), "no CA that the server trusts").await;
    let expired = ca.sign_expired("old", "DNS:client").unwrap();
    refused(url(&broker, "localhost"), with(expired), "it has expired").await;
}

/// Everything that a client says until it goes.
async fn heard(listener: TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut all = Vec::new();
    stream.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
    let _ = stream.read_to_end(&mut all).await;
    all
}

#[tokio::test]
async fn who_does_not_encrypt_hears_nothing_but_a_greeting() {
    let ca = CertificateAuthority::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("amqps://secretary:hunter2@127.0.0.1:{}", listener.local_addr().unwrap().port());
    let heard = tokio::spawn(heard(listener));
    let options = ConnectOptions::new(plain).tls(trusting(&ca.cert())).deadline(Duration::from_secs(2));
    let error = PROVIDER.connect(options).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert!(!format!("{error}{error:?}").contains("hunter2"), "{error:?}");
    let heard = timeout(SOON, heard).await.unwrap().unwrap();
    for clear in [&b"AMQP"[..], b"secretary", b"hunter2"] {
        assert!(!heard.windows(clear.len()).any(|part| part == clear), "{}", String::from_utf8_lossy(&heard));
    }
}

#[tokio::test]
async fn who_asks_for_no_encryption_does_not_get_it() {
    let ca = CertificateAuthority::new().unwrap();
    let broker = server(ca.sign("server", HERE).unwrap(), None).await;
    let clear = url(&broker, "localhost").replace("amqps", "amqp");
    let options = ConnectOptions::new(clear).deadline(Duration::from_secs(2));
    let error = PROVIDER.connect(options).await.unwrap_err();
    assert_eq!(error.certainty(), Certainty::Definite, "{error}");
}

#[tokio::test]
async fn a_renewed_certificate_is_read_without_a_restart() {
    let (old, new) = (CertificateAuthority::new().unwrap(), CertificateAuthority::new().unwrap());
    let shown = old.sign("server", HERE).unwrap();
    let broker = server(shown.clone(), None).await;
    let queue = connect(url(&broker, "localhost"), trusting(&old.cert())).await.unwrap();
    queue.declare(&Q.into()).await.unwrap();
    broker.kill9().await.unwrap();
    let renewed = new.sign("server", HERE).unwrap();
    std::fs::copy(renewed.cert, &shown.cert).unwrap();
    std::fs::copy(renewed.key, &shown.key).unwrap();
    std::fs::copy(new.cert(), old.cert()).unwrap();
    broker.start_again().await.unwrap();
    works_again(&queue).await;
}

#[tokio::test]
async fn files_that_do_not_fit_are_refused_before_anything_is_dialled() {
    let ca = CertificateAuthority::new().unwrap();
    let (one, two) = (ca.sign("one", HERE).unwrap(), ca.sign("two", HERE).unwrap());
    let trusting = || trusting(&ca.cert());
    for (tls, field, says) in [
        (TlsOptions::default().ca("/nowhere/ca.pem"), "ca", "/nowhere/ca.pem"),
        (TlsOptions::default().ca(&one.key), "ca", "holds no certificate in PEM"),
        (trusting().client_certificate("/nowhere/c.pem", &one.key), "cert", "/nowhere/c.pem"),
        (trusting().client_certificate(&one.cert, "/nowhere/c.key"), "key", "/nowhere/c.key"),
        (trusting().client_certificate(&one.cert, &one.cert), "key", "holds no private key in PEM"),
        (trusting().client_certificate(&one.cert, &two.key), "cert", "does not fit its key"),
        (trusting().server_name("no name"), "server_name", "neither a host's name"),
    ] {
        let error = connect("amqps://user:hunter2@nowhere.invalid".into(), tls).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { field: it, .. } if it == field), "{error}");
        assert!(error.to_string().contains(says) && !error.to_string().contains("hunter2"), "{error}");
    }
}
