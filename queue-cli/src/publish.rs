//! `polyqueue publish`: ids on standard output, one a line; for a duplicate the id of the message that has its key.

use std::io::IsTerminal;
use std::time::Duration;

use polyqueue::{Bytes, Dedup, Destination, Message, Published, Queue, QueueSpec};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::args::Publish;
use crate::exit::{Exit, Result};
use crate::{broker, ndjson, stderr, stdout};

/// How many messages one call carries at most, and how many bytes of payload.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a queue remembers dedup keys when nobody says.
const DEDUP_WINDOW: Duration = Duration::from_secs(5 * 60);
/// How long a batch waits for another line before it is sent.
const LINGER: Duration = Duration::from_millis(20);

pub(crate) async fn run(queue: &dyn Queue, args: &Publish) -> Result<()> {
    let (to, typed) = args.target.read()?;
    if args.ndjson {
        return match typed {
            Some(_) => Err(Exit::Usage("a BODY and --ndjson given: one of them".into())),
            None => lines(queue, &to, args).await,
        };
    }
    let payload = body(typed).await?;
    let first = args.envelope.around(payload.clone());
    queue.info().limits.check_message(&first)?;
    ensure_declared(queue, &to, args).await?;
    let mut failed = 0;
    let mut left = args.count;
    let at_once = (BATCH_BYTES / payload.len().max(1)).clamp(1, BATCH) as u64;
    while left > 0 {
        let copies = left.min(at_once);
        let batch = (0..copies).map(|_| (None, args.envelope.around(payload.clone()))).collect();
        failed += send(queue, &to, batch).await?;
        left -= copies;
    }
    verdict(failed)
}

/// A queue that is declared for a message with a dedup key remembers keys.
async fn ensure_declared(queue: &dyn Queue, to: &Destination, args: &Publish) -> Result<()> {
    let Destination::Queue(name) = to else { return Ok(()) };
    let spec = QueueSpec::new(name.clone());
    let window = args.dedup_window.or(args.envelope.dedup_key.as_ref().map(|_| DEDUP_WINDOW));
    let spec = match window {
        Some(window) => spec.dedup(Dedup::window(window)),
        None => spec,
    };
    broker::ensure_declared(queue, spec).await
}

pub(crate) async fn body(given: Option<&str>) -> Result<Bytes> {
    match given {
        Some(text) if text != "-" => Ok(Bytes::from(text.to_owned())),
        None if std::io::stdin().is_terminal() => {
            Err(Exit::Usage("give a BODY, or - to read it from standard input".into()))
        }
        _ => {
            let mut bytes = Vec::new();
            tokio::io::stdin().read_to_end(&mut bytes).await?;
            Ok(bytes.into())
        }
    }
}

async fn lines(queue: &dyn Queue, to: &Destination, args: &Publish) -> Result<()> {
    ensure_declared(queue, to, args).await?;
    let limits = queue.info().limits;
    let mut input = BufReader::new(tokio::io::stdin()).split(b'\n');
    let (mut batch, mut bytes, mut failed) = (Vec::new(), 0, 0);
    for number in 1_u64.. {
        let next = match tokio::time::timeout(LINGER, input.next_segment()).await {
            Ok(next) => next?,
            Err(_) => {
                failed += send(queue, to, std::mem::take(&mut batch)).await?;
                bytes = 0;
                input.next_segment().await?
            }
        };
        let Some(line) = next else { break };
        match ndjson::message(&line, &args.envelope, &limits) {
            _ if line.trim_ascii().is_empty() => {}
            Ok(message) => {
                bytes += message.payload().len();
                batch.push((Some(number), message));
            }
            Err(error) => {
                stderr::line(format_args!("polyqueue: line {number}: {error}"));
                failed += 1;
            }
        }
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            failed += send(queue, to, std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
    }
    failed += send(queue, to, batch).await?;
    verdict(failed)
}

/// Publishes a batch, prints the ids, names the lines that failed and answers how many did.
async fn send(queue: &dyn Queue, to: &Destination, batch: Vec<(Option<u64>, Message)>) -> Result<u64> {
    let (numbers, messages): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let answers = queue.publish(to, messages).await?;
    let (mut ids, mut failed, mut refused) = (Vec::new(), 0, None);
    for (number, answer) in numbers.into_iter().zip(answers) {
        match (answer, number) {
            (Ok(Published { id, duplicate_of, .. }), _) => {
                if duplicate_of.is_some() {
                    stderr::line("polyqueue: a duplicate, not stored: that id has its key");
                }
                ids.push(duplicate_of.unwrap_or(id));
            }
            (Err(error), Some(number)) => {
                stderr::line(format_args!("polyqueue: line {number}: {error}"));
                failed += 1;
            }
            (Err(error), None) => refused = refused.or(Some(error)),
        }
    }
    stdout::lines(ids)?;
    refused.map_or(Ok(failed), |error| Err(error.into()))
}

fn verdict(failed: u64) -> Result<()> {
    match failed {
        0 => Ok(()),
        1 => Err(Exit::Failed("1 line was not published; see above".into())),
        n => Err(Exit::Failed(format!("{n} lines were not published; see above"))),
    }
}
