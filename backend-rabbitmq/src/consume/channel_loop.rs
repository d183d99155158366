//! The work on one channel of a consumer: whatever happens next, and what follows from it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use polyqueue::MessageId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::connection::link::Session;
use crate::consume::source::Source;
use crate::consume::state::ConsumerState;
use crate::consume::task::Job;
use crate::settle::acks::MOVES;
use crate::settle::receipt::Key;
use crate::settle::republish::{AfterAck, Republished};
use crate::settle::unacked::UnackedTags;

/// How often a channel is looked at that nobody uses and of which no error was told.
const GLANCE: Duration = Duration::from_secs(5);
/// How long the orderly end of a consumer may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Acks that were sent, and whether the broker has them.
pub(crate) type Flushed = (lapin::Result<()>, Vec<(Key, AfterAck)>);

/// Why a channel's work ended.
pub(crate) enum LoopEnd {
    /// Nobody needs the consumer any more.
    Done,
    /// The channel is gone.
    Lost(lapin::Error),
}

/// The work on one channel.
pub(crate) struct ChannelLoop {
    pub(crate) reader: Arc<ConsumerState>,
    pub(crate) session: Arc<Session>,
    pub(crate) channel: Channel,
    pub(crate) epoch: u64,
    pub(crate) source: Source,
    pub(crate) unacked: UnackedTags,
    pub(crate) moves: FuturesUnordered<BoxFuture<'static, Republished>>,
    pub(crate) acks: Vec<(Key, AfterAck)>,
    pub(crate) flushes: FuturesUnordered<BoxFuture<'static, Flushed>>,
    /// Messages that came back and are being filed again.
    pub(crate) refiling: usize,
    /// How many messages to ask for at least, while those that come back are swept up, and how many of them are left.
    pub(crate) sweep: usize,
    pub(crate) sweep_left: usize,
    /// Messages that looked expired, given back so that the broker decides, and when.
    pub(crate) suspects: HashMap<MessageId, Instant>,
    /// The queue was empty when it was last asked.
    pub(crate) empty: bool,
    /// Up to which receive the broker was asked.
    pub(crate) asked: u64,
    pub(crate) paused_until: Option<Instant>,
    pub(crate) closing: Vec<oneshot::Sender<()>>,
    pub(crate) closed: bool,
    pub(crate) ending: Option<Instant>,
}

impl ChannelLoop {
    pub(crate) fn new(
        reader: Arc<ConsumerState>,
        session: Arc<Session>,
        channel: Channel,
        epoch: u64,
    ) -> Self {
        let source = Source::new(channel.clone(), reader.object());
        let closed = reader.hand_out.pending.is_closed();
        Self {
            reader,
            session,
            channel,
            epoch,
            source,
            unacked: UnackedTags::default(),
            moves: FuturesUnordered::new(),
            acks: Vec::new(),
            flushes: FuturesUnordered::new(),
            refiling: 0,
            sweep: 1,
            sweep_left: 0,
            suspects: HashMap::new(),
            empty: false,
            asked: 0,
            paused_until: None,
            closing: Vec::new(),
            closed,
            ending: None,
        }
    }

    pub(crate) async fn serve(mut self, jobs: &mut mpsc::UnboundedReceiver<Job>) -> LoopEnd {
        let handle = self.reader.handle().clone();
        let mut errors = self.session.errors();
        let mut glance = tokio::time::interval(GLANCE);
        glance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.flush();
            self.advance();
            if self.is_quiet() {
                self.closing.clear();
                if self.ending.is_some() {
                    return LoopEnd::Done;
                }
            }
            let lease_end = self.reader.hand_out.leases.next_end().filter(|_| self.moves.len() < MOVES);
            let came = tokio::select! {
                biased;
                job = jobs.recv(), if self.ending.is_none() => {
                    match job {
                        Some(job) => {
                            self.start(job);
                            while let Ok(job) = jobs.try_recv() {
                                self.start(job);
                            }
                        }
                        None => self.end(),
                    }
                    Ok(())
                }
                Some((result, done)) = self.flushes.next(), if !self.flushes.is_empty() => self.flushed(result, done),
                Some(moved) = self.moves.next(), if !self.moves.is_empty() => {
                    self.moved(moved);
                    Ok(())
                }
                came = self.source.next() => came.map(|came| self.came(came)),
                () = at(lease_end) => {
                    self.end_leases();
                    Ok(())
                }
                () = at(self.paused_until) => {
                    self.paused_until = None;
                    Ok(())
                }
                () = self.reader.hand_out.pending.changed() => Ok(()),
                () = self.reader.hand_out.leases.changed() => Ok(()),
                () = handle.closed(), if self.ending.is_none() => {
                    self.end();
                    Ok(())
                }
                () = at(self.ending) => return LoopEnd::Done,
                Ok(()) = errors.changed() => self.check(),
                _ = glance.tick() => self.check(),
            };
            if let Err(error) = came {
                return if self.ending.is_some() { LoopEnd::Done } else { LoopEnd::Lost(error) };
            }
        }
    }

    fn check(&self) -> lapin::Result<()> {
        if self.session.is_alive() && self.channel.status().connected() {
            return Ok(());
        }
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
    }

    fn is_quiet(&self) -> bool {
        (self.closed || self.ending.is_some())
            && self.source.is_idle()
            && self.moves.is_empty()
            && self.acks.is_empty()
            && self.flushes.is_empty()
    }

    fn end(&mut self) {
        self.reader.hand_out.close();
        self.closed = true;
        self.ending = Some(Instant::now() + FAREWELL);
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
