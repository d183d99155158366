//! One GET, as the management plugin of RabbitMQ wants it. HTTP/1.0, so that the answer is one piece and the connection ends with it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use polyqueue::backend::BrokerUrl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(10);
/// No answer that we ask for is longer.
const LONGEST: u64 = 64 << 20;
const DEFAULT_PORT: u16 = 15672;

/// The status, and the body.
pub(super) async fn get(url: &BrokerUrl, path: &str) -> Result<(u16, Vec<u8>), String> {
    let answer = timeout(WITHIN, exchange(url, path)).await;
    let answer = answer.map_err(|_| format!("{url}: no answer within {WITHIN:?}"))?;
    let answer = answer.map_err(|error| format!("{url}: {error}"))?;
    parted(&answer).ok_or(format!("{url}: what answers speaks no HTTP"))
}

async fn exchange(url: &BrokerUrl, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((url.host.as_str(), url.port.unwrap_or(DEFAULT_PORT))).await?;
    let login = url.login.as_ref().map(|login| format!("{}:{}", login.user, login.password));
    let login = STANDARD.encode(login.unwrap_or_else(|| "guest:guest".into()));
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Basic {login}\r\nAccept: application/json\r\n\r\n",
        url.host
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parted(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer[end + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\r\n{}";
        assert_eq!(parted(answer), Some((503, b"{}".to_vec())));
        for none in [&b"AMQP\0\0\x09\x01"[..], b"", b"HTTP/1.1 200 OK\r\n"] {
            assert_eq!(parted(none), None);
        }
    }
}
