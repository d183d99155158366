//! How a channel's messages leave: their replacement is published where there is one, then they are acked.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use polyqueue::{Certainty, Error, Result, Settled, Verdict};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::queries::fence;
use crate::consume::channel_loop::ChannelLoop;
use crate::consume::task::Job;
use crate::settle::fetched::Fetched;
use crate::settle::receipt::Key;
use crate::settle::republish::{AfterAck, Republished};

/// How many barriers may be on their way at a time.
const FLUSHES: usize = 2;
/// How many leases that end at once are dealt with at a time: fresh messages need the same connection.
pub(crate) const MOVES: usize = 64;
/// How long to leave the queue alone when nothing can be published.
const PAUSE: Duration = Duration::from_millis(200);

impl ChannelLoop {
    pub(crate) fn start(&mut self, job: Job) {
        match job {
            Job::Close(reply) => {
                self.reader.hand_out.close();
                self.closed = true;
                self.closing.push(reply);
            }
            Job::Settle { key, reply, .. } if key.epoch != self.epoch => {
                self.reader.hand_out.leases.lose(|lost| *lost == key);
                let _ = reply.send(Ok(Settled::LeaseLost));
            }
            Job::Settle { key, item, since, verdict, reply } => {
                let over = item.is_over(self.reader.handle().now());
                let answer = answer_to(&verdict, &item, over);
                let then = AfterAck::Answer { verdict: verdict.clone(), answer, since, reply };
                if verdict == Verdict::Ack && self.reader.republisher.is_simple(&item) {
                    self.acks.push((key, then));
                } else {
                    let reader = self.reader.clone();
                    self.moving(
                        key,
                        then,
                        async move { reader.republisher.apply(item, &verdict, over).await },
                    );
                }
            }
        }
    }

    pub(crate) fn end_leases(&mut self) {
        for (key, item) in self.reader.hand_out.leases.ended(MOVES - self.moves.len().min(MOVES)) {
            if key.epoch != self.epoch {
                continue;
            }
            tracing::debug!(name: "rabbitmq.lease_ended", queue = %self.reader.queue(), attempt = item.attempt);
            let reader = self.reader.clone();
            self.moving(key, AfterAck::Nothing, async move { reader.republisher.expire(item).await });
        }
    }

    pub(crate) fn moving(
        &mut self,
        key: Key,
        then: AfterAck,
        publish: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.moves.push(async move { Republished { key, then, result: publish.await } }.boxed());
    }

    /// The replacement is published: ack the original. It is not: the verdict failed, or the broker gets it back.
    pub(crate) fn moved(&mut self, moved: Republished) {
        let Republished { key, then, result } = moved;
        if matches!(then, AfterAck::Recovered) {
            self.refiling -= 1;
        }
        match (result, then) {
            (Ok(()), then) => self.acks.push((key, then)),
            (Err(error), AfterAck::Answer { reply, .. }) => {
                self.reader.hand_out.leases.reopen(&key);
                let _ = reply.send(Err(error));
            }
            (Err(error), AfterAck::Recovered | AfterAck::Nothing) => {
                tracing::warn!(name: "rabbitmq.move_failed", queue = %self.reader.queue(), %error);
                self.paused_until = Some(Instant::now() + PAUSE);
                self.reject(key.tag);
            }
        }
    }

    /// Gives a message back to the broker, to its old place.
    pub(crate) fn reject(&mut self, tag: u64) {
        self.unacked.returned(tag);
        let channel = self.channel.clone();
        let reject = async move { channel.basic_reject(tag, BasicRejectOptions { requeue: true }).await };
        let mut reject = reject.boxed();
        if reject.as_mut().now_or_never().is_none() {
            self.flushes.push(reject.map(|result| (result, Vec::new())).boxed());
        }
    }

    /// Sends the acks that have gathered, and a question behind them that the queue answers when it has them.
    pub(crate) fn flush(&mut self) {
        if self.acks.is_empty() || self.flushes.len() >= FLUSHES {
            return;
        }
        let most =
            self.acks.len().min(self.reader.topology().queue_type(self.reader.queue()).acks_per_fence());
        let done: Vec<(Key, AfterAck)> = self.acks.drain(..most).collect();
        let tags: Vec<u64> = done.iter().map(|(key, _)| key.tag).collect();
        let frames = self.unacked.ack(&tags);
        let (channel, queue) = (self.channel.clone(), self.reader.object());
        let sending = async move {
            let acks = frames
                .iter()
                .map(|frame| channel.basic_ack(frame.tag, BasicAckOptions { multiple: frame.multiple }));
            let acks = join_all(acks);
            let (acked, answered) = futures_util::future::join(acks, fence(channel.clone(), queue)).await;
            acked.into_iter().collect::<lapin::Result<()>>().and(answered.map(drop))
        };
        // The first poll writes the frames: acks must reach the broker in the request in which the unacked saw them.
        let mut sending = sending.boxed();
        match sending.as_mut().now_or_never() {
            Some(result) => self.flushes.push(std::future::ready((result, done)).boxed()),
            None => self.flushes.push(sending.map(|result| (result, done)).boxed()),
        }
    }

    pub(crate) fn flushed(
        &mut self,
        result: lapin::Result<()>,
        done: Vec<(Key, AfterAck)>,
    ) -> lapin::Result<()> {
        for (key, then) in done {
            match then {
                AfterAck::Answer { verdict, answer, since, reply } => {
                    let outcome = match &result {
                        Ok(()) => {
                            self.reader.hand_out.leases.finish(&key);
                            self.reader.meter.settled(&verdict, answer, since.elapsed());
                            Ok(answer)
                        }
                        Err(error) => {
                            let said = format!("{}: {error}", self.reader.handle().address);
                            Err(Error::unavailable(NAME, Certainty::Unknown, said))
                        }
                    };
                    let _ = reply.send(outcome);
                }
                AfterAck::Recovered | AfterAck::Nothing => {}
            }
        }
        result
    }
}

fn answer_to(verdict: &Verdict, item: &Fetched, over: bool) -> Settled {
    match verdict {
        Verdict::DeadLetter { .. } => Settled::Died,
        Verdict::Retry { .. } if over || item.attempt >= item.max_attempts => Settled::Died,
        _ => Settled::Applied,
    }
}
