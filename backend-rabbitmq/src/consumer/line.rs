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

use super::Reader;
use super::ledger::Ledger;
use super::moves::{Moved, Then};
use super::pump::Job;
use super::receipt::Key;
use super::settling::MOVES;
use super::source::Source;
use crate::link::Session;

/// How often a channel is looked at that nobody uses and of which no error was told.
const GLANCE: Duration = Duration::from_secs(5);
/// How long the orderly end of a consumer may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Acks that were sent, and whether the broker has them.
pub(super) type Flushed = (lapin::Result<()>, Vec<(Key, Then)>);

/// Why a channel's work ended.
pub(super) enum End {
    /// Nobody needs the consumer any more.
    Done,
    /// The channel is gone.
    Lost(lapin::Error),
}

/// The work on one channel.
pub(super) struct Line {
    pub(super) reader: Arc<Reader>,
    pub(super) session: Arc<Session>,
    pub(super) channel: Channel,
    pub(super) epoch: u64,
    pub(super) source: Source,
    pub(super) ledger: Ledger,
    pub(super) moves: FuturesUnordered<BoxFuture<'static, Moved>>,
    pub(super) acks: Vec<(Key, Then)>,
    pub(super) flushes: FuturesUnordered<BoxFuture<'static, Flushed>>,
    /// Messages that came back and are being filed again.
    pub(super) refiling: usize,
    /// How many messages to ask for at least, while those that come back are swept up, and how many of them are left.
    pub(super) sweep: usize,
    pub(super) sweep_left: usize,
    /// Messages that looked expired, given back so that the broker decides, and when.
    pub(super) suspects: HashMap<MessageId, Instant>,
    /// The queue was empty when it was last asked.
    pub(super) empty: bool,
    /// Up to which receive the broker was asked.
    pub(super) asked: u64,
    pub(super) paused_until: Option<Instant>,
    pub(super) closing: Vec<oneshot::Sender<()>>,
    pub(super) closed: bool,
    pub(super) ending: Option<Instant>,
}

impl Line {
    pub(super) fn new(reader: Arc<Reader>, session: Arc<Session>, channel: Channel, epoch: u64) -> Self {
        let source = Source::new(channel.clone(), reader.object());
        let closed = reader.desk.pending.is_closed();
        Self {
            reader,
            session,
            channel,
            epoch,
            source,
            ledger: Ledger::default(),
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

    pub(super) async fn serve(mut self, jobs: &mut mpsc::UnboundedReceiver<Job>) -> End {
        let core = self.reader.core.clone();
        let mut errors = self.session.errors();
        let mut glance = tokio::time::interval(GLANCE);
        glance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.flush();
            self.advance();
            if self.is_quiet() {
                self.closing.clear();
                if self.ending.is_some() {
                    return End::Done;
                }
            }
            let lease_end = self.reader.desk.leases.next_end().filter(|_| self.moves.len() < MOVES);
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
                () = self.reader.desk.pending.changed() => Ok(()),
                () = self.reader.desk.leases.changed() => Ok(()),
                () = core.closed(), if self.ending.is_none() => {
                    self.end();
                    Ok(())
                }
                () = at(self.ending) => return End::Done,
                Ok(()) = errors.changed() => self.check(),
                _ = glance.tick() => self.check(),
            };
            if let Err(error) = came {
                return if self.ending.is_some() { End::Done } else { End::Lost(error) };
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
        self.reader.desk.close();
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
