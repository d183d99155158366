//! `polyqueue publish`: ids on standard output, one a line; for a duplicate the id of the message that has its key.

mod batch;
mod lines;

use std::io::IsTerminal;

use polyqueue::{Bytes, Destination, Queue};
use tokio::io::AsyncReadExt;

use crate::args::Publish;
use crate::exit::{Exit, Result};
use crate::progress::Progress;
use batch::{BATCH, BATCH_BYTES, ensure_declared, send};
use lines::Lines;

pub(crate) async fn run(queue: &dyn Queue, args: &Publish) -> Result<()> {
    let (to, typed) = args.target.read()?;
    let progress = Progress::new("published");
    if args.ndjson {
        return match typed {
            Some(_) => Err(Exit::Usage("a BODY and --ndjson given: one of them".into())),
            None => {
                let lines = Lines::new(queue, &to, args, &progress);
                progress.beside_lines(lines.publish(tokio::io::stdin())).await
            }
        };
    }
    let payload = body(typed).await?;
    let first = args.envelope.around(payload.clone());
    queue.info().limits.check_message(&first)?;
    ensure_declared(queue, &to, args, false).await?;
    progress.beside_lines(copies(queue, &to, args, payload, &progress)).await
}

async fn copies(
    queue: &dyn Queue,
    to: &Destination,
    args: &Publish,
    payload: Bytes,
    progress: &Progress,
) -> Result<()> {
    let mut left = args.count;
    let at_once = (BATCH_BYTES / payload.len().max(1)).clamp(1, BATCH) as u64;
    while left > 0 {
        let copies = left.min(at_once);
        let batch = (0..copies).map(|_| (None, args.envelope.around(payload.clone()))).collect();
        send(queue, to, batch).await?;
        progress.add(copies);
        left -= copies;
    }
    Ok(())
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
