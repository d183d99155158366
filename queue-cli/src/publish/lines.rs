//! `publish --ndjson`: a message a line, sent in batches.

use std::time::Duration;

use polyqueue::{Destination, Message, Queue};
use tokio::io::AsyncRead;

use super::batch::{BATCH, BATCH_BYTES, ensure_declared, send, verdict};
use crate::args::Publish;
use crate::exit::Result;
use crate::input::{Input, Line};
use crate::progress::Progress;
use crate::{ndjson, stderr};

/// How long a batch waits for another line before it is sent.
const LINGER: Duration = Duration::from_millis(20);
/// What a line may have beside its payload, which takes six bytes for one at most (`\\u0000`).
const ENVELOPE_BYTES: usize = 1024 * 1024;
const BYTES_FOR_ONE: usize = 6;

pub(super) struct Lines<'a> {
    queue: &'a dyn Queue,
    to: &'a Destination,
    args: &'a Publish,
    progress: &'a Progress,
    declared: bool,
    batch: Vec<(Option<u64>, Message)>,
    bytes: usize,
    failed: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn new(
        queue: &'a dyn Queue,
        to: &'a Destination,
        args: &'a Publish,
        progress: &'a Progress,
    ) -> Self {
        Self { queue, to, args, progress, declared: false, batch: Vec::new(), bytes: 0, failed: 0 }
    }

    pub(super) async fn publish(mut self, from: impl AsyncRead + Unpin) -> Result<()> {
        let limit = self.queue.info().limits.payload * BYTES_FOR_ONE + ENVELOPE_BYTES;
        let mut input = Input::new(from, limit);
        loop {
            let next = match tokio::time::timeout(LINGER, input.next()).await {
                Ok(next) => next?,
                Err(_) => {
                    self.send().await?;
                    input.next().await?
                }
            };
            let Some((number, line)) = next else { break };
            self.take(number, line);
            if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES {
                self.send().await?;
            }
        }
        self.send().await?;
        verdict(self.failed)
    }

    fn take(&mut self, number: u64, line: Line) {
        let read = match line {
            Line::Whole(line) if line.trim_ascii().is_empty() => return,
            Line::Whole(line) => ndjson::message(&line, &self.args.envelope, &self.queue.info().limits),
            Line::TooLong { limit } => {
                Err(format!("longer than {limit} bytes, which is more than a message can have"))
            }
        };
        match read {
            Ok(message) => {
                self.bytes += message.payload().len();
                self.batch.push((Some(number), message));
            }
            Err(error) => {
                stderr::line(format_args!("polyqueue: line {number}: {error}"));
                self.failed += 1;
            }
        }
    }

    /// A queue that is declared for lines with dedup keys remembers keys, as far as the first batch tells.
    async fn send(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if !self.declared {
            let keyed = batch.iter().any(|(_, message)| message.dedup_key().is_some());
            ensure_declared(self.queue, self.to, self.args, keyed).await?;
            self.declared = true;
        }
        if !batch.is_empty() {
            let sent = batch.len() as u64;
            let failed = send(self.queue, self.to, batch).await?;
            self.progress.add(sent - failed);
            self.failed += failed;
        }
        Ok(())
    }
}
