//! Moving: takes what is due soon out of its slots, holds it until it is due, publishes it, and then removes it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use lapin::{Channel, Consumer};
use polyqueue::backend::background;
use polyqueue::{Certainty, Error, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::connection::handle::Handle;
use crate::connection::publisher::Publisher;
use crate::connection::queries::fence;
use crate::connection::request::Confirm;
use crate::connection::session::Session;
use crate::delay::ending::Ending;
use crate::delay::errand::{Errand, Errands};
use crate::delay::held::Held;
use crate::delay::moves::{Move, Moved, Way, send};
use crate::delay::owner::{Owner, Owners};
use crate::delay::reader::{Reading, read};
use crate::delay::returned::{Found, Returned};
use crate::delay::schedule::{Order, Schedule};
use crate::delay::shared::Shared;
use crate::delay::slots::{Cell, FROM_ABOVE, Slot};
use crate::delay::turn::{Turn, hints, next_hint};
use crate::delay::window::Window;
use crate::wire::delay::LOOK;

/// How often it is looked which slots are to be read.
const TICK: Duration = Duration::from_millis(50);
/// What is due so soon, in milliseconds, is held.
const SOON: i64 = 1_400;
/// How many messages are on their way to their queues at a time, and how many to other slots.
const MOVES: usize = 200;
const REFILES: usize = 100;
/// When a message is tried again that could not be moved, in milliseconds.
const AGAIN: i64 = 500;
/// The same where it is not known whose it is.
const UNKNOWN: i64 = 5_000;
/// The same where nobody knows its queue, and for how long that is done.
const STRANDED: i64 = 60_000;
const DAY: i64 = 24 * 60 * 60 * 1_000;
/// A message that took so long into its slot may have come when that was over.
const SLOW: Duration = Duration::from_millis(800);
/// How long what is on its way may take when the handle is closed, at most.
const END: Duration = Duration::from_secs(3);
/// For how long a channel is remembered over which something was acked.
const ACKED: Duration = Duration::from_millis(500);
/// How long it may take to give the turn back, and to say so.
const HINT: Duration = Duration::from_millis(300);
/// How many events are taken up at once.
const AT_ONCE: usize = 256;

/// Who moves what is due.
pub(crate) struct Active {
    shared: Arc<Shared>,
    session: Arc<Session>,
    schedule: Schedule,
    readers: HashMap<Slot, oneshot::Sender<()>>,
    told: (mpsc::UnboundedSender<Reading>, mpsc::UnboundedReceiver<Reading>),
    window: Window<Held>,
    /// What is to be put into another slot.
    refiles: std::collections::VecDeque<(Held, Cell)>,
    moves: mpsc::UnboundedSender<Move>,
    moved: mpsc::UnboundedReceiver<Moved>,
    /// How many are on their way to their queues, and to other slots.
    under_way: usize,
    refiling: usize,
    returned: Returned,
    acks: FuturesUnordered<BoxFuture<'static, lapin::Result<()>>>,
    /// Over which channels something was acked a moment ago.
    acked: Vec<(Slot, Instant, Channel)>,
    errands: Errands,
    hints: Consumer,
    sender: Sender,
}

/// The task that publishes; it ends with who moves.
struct Sender(JoinHandle<()>);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Active {
    pub(crate) async fn begin(
        shared: Arc<Shared>,
        handle: Arc<Handle>,
        session: Arc<Session>,
        publisher: Publisher,
    ) -> Result<Self> {
        let hints = hints(&session, LOOK).await.map_err(|error| session.fault(&error))?;
        let (moves, orders) = mpsc::unbounded_channel();
        let (done, moved) = mpsc::unbounded_channel();
        let sender = Sender(background().spawn(send(publisher.clone(), orders, done)));
        tracing::debug!(name: "rabbitmq.moves", "moves what is delayed");
        Ok(Self {
            errands: Errands::new(handle.clone(), publisher),
            returned: Returned::new(Owners::new(handle.clone())),
            shared,
            session,
            schedule: Schedule::new(),
            readers: HashMap::new(),
            told: mpsc::unbounded_channel(),
            window: Window::default(),
            refiles: Default::default(),
            moves,
            moved,
            under_way: 0,
            refiling: 0,
            acks: FuturesUnordered::new(),
            acked: Vec::new(),
            hints,
            sender,
        })
    }

    /// Ends without an error when it is to end.
    pub(crate) async fn run(mut self, mut turn: Turn, ending: &Ending) -> Result<()> {
        loop {
            let now = self.now()?;
            self.follow_schedule(now);
            self.release(now);
            let wake = self.window.next_due().and_then(|due| self.shared.clock.until(due));
            let wake = wake.map_or(TICK, |wake| wake.min(TICK));
            tokio::select! {
                biased;
                () = ending.ended() => return self.finish(turn, END.min(ending.patience())).await,
                error = turn.lost() => return Err(self.session.fault(&error)),
                Some(moved) = self.moved.recv() => self.moved(moved)?,
                Some(reading) = self.told.1.recv() => self.told(reading)?,
                Some(ack) = self.acks.next(), if !self.acks.is_empty() => ack.map_err(|e| self.session.fault(&e))?,
                Some(found) = self.returned.next(), if !self.returned.is_empty() => self.found(found),
                Some(errand) = self.errands.next(), if !self.errands.is_empty() => self.done(errand)?,
                hint = next_hint(&mut self.hints) => self.hint(&hint.map_err(|e| self.session.fault(&e))?.data),
                () = sleep(wake) => {}
            }
            self.take_more()?;
        }
    }

    /// The broker's time is at least this.
    fn now(&self) -> Result<i64> {
        self.shared.clock.earliest().ok_or(Error::Closed)
    }

    /// What else has happened, so that many events need not many rounds.
    fn take_more(&mut self) -> Result<()> {
        for _ in 0..AT_ONCE {
            let moved = self.moved.try_recv().ok();
            let told = self.told.1.try_recv().ok();
            if moved.is_none() && told.is_none() {
                return Ok(());
            }
            moved.map_or(Ok(()), |moved| self.moved(moved))?;
            told.map_or(Ok(()), |told| self.told(told))?;
        }
        Ok(())
    }

    fn follow_schedule(&mut self, now: i64) {
        for order in self.schedule.step(now) {
            match order {
                Order::Read { slot, narrow } => {
                    let (stop, stopped) = oneshot::channel();
                    self.readers.insert(slot, stop);
                    background().spawn(read(
                        self.session.clone(),
                        slot,
                        narrow,
                        self.told.0.clone(),
                        stopped,
                    ));
                }
                Order::Stop(slot) => {
                    if let Some(stop) = self.readers.remove(&slot) {
                        let _ = stop.send(());
                    }
                }
                Order::Ask(slots) => self.errands.ask(slots),
            }
        }
    }

    /// Sends off what is due, and what belongs into another slot.
    fn release(&mut self, now: i64) {
        while self.under_way < MOVES
            && let Some(held) = self.window.take(now)
        {
            if held.ticket.due > now {
                // It could not be moved before, and waited here for another try.
                self.place(held, now);
            } else {
                self.send(held, Way::Due);
            }
        }
        while self.refiling < REFILES
            && let Some((held, cell)) = self.refiles.pop_front()
        {
            self.send(held, Way::Again(cell));
        }
    }

    fn send(&mut self, held: Held, way: Way) {
        *self.count(&way) += 1;
        // Where nobody receives any more the task has ended, which the loop finds out.
        let _ = self.moves.send(Move::new(held, way));
    }

    fn ack(&mut self, held: Held) {
        let (now, channel) = (Instant::now(), held.channel());
        self.schedule.left(held.slot, self.shared.clock.earliest().unwrap_or_default());
        self.acked.retain(|(_, at, _)| now.duration_since(*at) < ACKED);
        match self.acked.iter_mut().find(|(_, _, known)| known.id() == channel.id()) {
            Some((_, at, _)) => *at = now,
            None => self.acked.push((held.slot, now, channel)),
        }
        self.acks.push(held.ack());
    }

    fn count(&mut self, way: &Way) -> &mut usize {
        if let Way::Again(_) = way { &mut self.refiling } else { &mut self.under_way }
    }

    /// Keeps what is due soon, and puts the rest into the slot that it belongs into. Answers whether it was right to take it out.
    fn place(&mut self, held: Held, now: i64) -> bool {
        let due = held.ticket.due;
        let cell = Cell::of(due, now, FROM_ABOVE);
        let (soon, stays) = (due - now <= SOON, cell.slot() == held.slot);
        if soon || stays || self.schedule.is_read(cell.slot()) {
            self.window.put(due, held.ticket.address.clone(), held);
        } else {
            self.refiles.push_back((held, cell));
        }
        soon || !stays
    }

    fn told(&mut self, reading: Reading) -> Result<()> {
        let now = self.now()?;
        match reading {
            Reading::Came(held) => {
                let slot = held.slot;
                if self.place(*held, now) {
                    self.schedule.busy(slot, now);
                }
            }
            Reading::Begun(slot) => self.schedule.begun(slot, now),
            Reading::Ended(slot, error) => {
                self.readers.remove(&slot);
                self.schedule.ended(slot, error.is_some(), now);
                for held in self.window.take_back(|held| held.slot == slot && held.ticket.due - now > SOON) {
                    self.acks.push(held.give_back());
                }
                if error.is_some() && slot.level == 0 {
                    self.errands.make(slot, Vec::new());
                }
            }
        }
        Ok(())
    }

    fn moved(&mut self, (one, answer): Moved) -> Result<()> {
        let Move { held, way, began } = one;
        *self.count(&way) -= 1;
        match answer {
            Ok(Confirm::Stored) => {
                if let Way::Again(cell) = way
                    && began.elapsed() > SLOW
                {
                    self.schedule.look(cell.slot());
                }
                if let Way::Again(cell) = way {
                    self.schedule.found([cell.slot()]);
                }
                self.ack(held);
            }
            Ok(Confirm::Unroutable) => self.came_back(held, way),
            Err(error) if error.certainty() == Certainty::Definite => self.retry(held, AGAIN),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn came_back(&mut self, held: Held, way: Way) {
        match way {
            Way::Due => {
                if let Some(held) = self.returned.put(held) {
                    self.postpone(held, UNKNOWN);
                }
            }
            Way::Into(_) => self.strand(held),
            Way::Again(cell) => self.errands.make(cell.slot(), vec![(held, cell)]),
            Way::Lost => self.errands.make_lost(held),
        }
    }

    /// Tries it again a moment later, as it is.
    fn retry(&mut self, held: Held, later: i64) {
        let at = self.shared.clock.earliest().unwrap_or_default() + later;
        self.window.put(at, held.ticket.address.clone(), held);
    }

    /// Puts it into the wheel once more.
    fn postpone(&mut self, mut held: Held, later: i64) {
        let now = self.shared.clock.earliest().unwrap_or_default();
        held.ticket.due = now + later;
        let cell = Cell::of(held.ticket.due, now, FROM_ABOVE);
        self.refiles.push_back((held, cell));
    }

    /// Nobody knows its queue.
    fn strand(&mut self, mut held: Held) {
        let now = self.shared.clock.earliest().unwrap_or_default();
        let since = held.ticket.stranded.map_or(now, |since| since.min(now));
        held.ticket.stranded = Some(since);
        let id = held.properties.message_id().as_ref().map(|id| id.as_str()).unwrap_or_default();
        self.shared.strand(&held.ticket.namespace, id);
        if now - since > DAY {
            self.send(held, Way::Lost);
        } else {
            // Just after a start of the broker what is known a moment later may not be.
            self.postpone(held, (now - since).clamp(1_000, STRANDED));
        }
    }

    fn found(&mut self, (_, found): Found) {
        for (held, owner) in found {
            match owner {
                Some(Owner::Queue(queue)) => self.send(held, Way::Into(queue)),
                Some(Owner::Deleted) => self.ack(held),
                Some(Owner::Nobody) => self.strand(held),
                None => self.postpone(held, UNKNOWN),
            }
        }
    }

    fn done(&mut self, errand: Errand) -> Result<()> {
        match errand {
            Errand::There(there) => self.schedule.found(there?),
            Errand::Made(slot, made, held) => {
                if made.is_ok() {
                    self.schedule.found([slot]);
                }
                for (held, cell) in held {
                    match &made {
                        Ok(()) => self.refiles.push_back((held, cell)),
                        Err(_) => self.retry(held, AGAIN),
                    }
                }
            }
            Errand::MadeLost(made, held) => match made {
                Ok(()) => self.send(*held, Way::Lost),
                Err(_) => self.retry(*held, UNKNOWN),
            },
        }
        Ok(())
    }

    /// Somebody says that something may be overdue in a slot.
    fn hint(&mut self, slot: &[u8]) {
        if let Some(slot) = std::str::from_utf8(slot).ok().and_then(Slot::of_queue) {
            self.schedule.found([slot]);
            self.schedule.look(slot);
        }
    }

    /// Lets what is on its way come to its end, so that there are no copies of it.
    async fn finish(mut self, turn: Turn, most: Duration) -> Result<()> {
        let ended = async {
            while self.under_way + self.refiling > 0
                && let Some((one, answer)) = self.moved.recv().await
            {
                *self.count(&one.way) -= 1;
                if let Ok(Confirm::Stored) = answer {
                    self.ack(one.held);
                }
            }
            while let Some(Ok(())) = self.acks.next().await {}
            // The end of the connection would overtake what the queues have not dealt with.
            let fences = self.acked.iter().map(|(slot, _, channel)| fence(channel.clone(), slot.queue()));
            join_all(fences).await;
        };
        if timeout(most, ended).await.is_ok() {
            let _ = timeout(HINT, self.errands.leave(turn)).await;
        }
        drop(self.sender);
        Ok(())
    }
}
