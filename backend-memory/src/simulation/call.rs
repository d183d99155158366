//! One call over a line: a request, what the broker does about it, and an answer, each of which may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use polyqueue::backend::{EventSender, PublishBlock};
use polyqueue::{Certainty, Error, Event, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use crate::address::NAME;
use crate::simulation::line::{Born, Direction, Ended, Line};
use crate::simulation::size;

/// From one attempt to connect to the next: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The pauses between attempts: each twice as long as the one before, up to a second.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// The next one, or until `end` where that is sooner.
    pub(crate) async fn pause(&mut self, end: Instant) {
        let pause = self.0;
        self.0 = (2 * pause).min(LONGEST_PAUSE);
        let over = Instant::now() + pause;
        sleep_until(end.min(over)).await;
    }
}

/// What runs at the broker.
pub(crate) type Work<A> = std::pin::Pin<Box<dyn Future<Output = Result<A>> + Send>>;

/// What is done with an answer that nobody got.
pub(crate) type Unread<A> =
    Arc<dyn Fn(A) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What a broker in trouble asks of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Stores messages.
    Publishes,
    /// Takes memory otherwise.
    Grows,
    /// Changes something.
    Changes,
    /// Changes nothing.
    Reads,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) what: &'static str,
    pub(crate) bytes: u64,
    /// How much longer than the deadline it may take.
    pub(crate) wait: Duration,
    pub(crate) effect: Effect,
}

impl Request {
    pub(crate) fn new(what: &'static str, effect: Effect) -> Self {
        Self { what, bytes: size::EMPTY, wait: Duration::ZERO, effect }
    }

    pub(crate) fn of(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }
}

/// What becomes of an answer.
pub(crate) struct Answer<A> {
    pub(crate) bytes: fn(&A) -> u64,
    pub(crate) unread: Option<Unread<A>>,
}

impl<A> Default for Answer<A> {
    fn default() -> Self {
        Self { bytes: |_| size::EMPTY, unread: None }
    }
}

/// What the next attempt to connect has to wait for, after one that failed.
#[derive(Debug)]
struct Dialing {
    pause: Duration,
    not_before: Option<Instant>,
}

impl Default for Dialing {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE, not_before: None }
    }
}

/// One client's end of a line.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) line: Arc<Line>,
    client: u64,
    pub(crate) deadline: Duration,
    /// One attempt at a time, none before the pause after the last is over, whoever waits for it.
    dialing: tokio::sync::Mutex<Dialing>,
    closed: AtomicBool,
    events: EventSender,
    block: PublishBlock,
}

impl Wire {
    pub(crate) fn new(line: Arc<Line>, deadline: Duration, events: EventSender) -> Arc<Self> {
        let client = line.next_client();
        let (dialing, closed) = Default::default();
        let block = PublishBlock::new(events.clone());
        Arc::new(Self { line, client, deadline, dialing, closed, events, block })
    }

    /// # Errors
    /// A definite `Unavailable` where there is no connection within the deadline.
    pub(crate) async fn connect(&self) -> Result<()> {
        match timeout(self.deadline, self.dial()).await {
            Ok(connected) => connected.map(drop),
            Err(_) => Err(away("no connection")),
        }
    }

    /// Every call that is under way ends.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        self.line.leave(self.client);
        self.line.world.announce();
    }

    /// A client of this kind sees that its connection was lost when it needs one.
    fn tell_restored(&self) {
        let detail = || String::from("the simulated line");
        self.events.send_to_all(Event::ConnectionLost { detail: detail() });
        self.events.send_to_all(Event::ConnectionRestored { detail: detail() });
    }

    /// Why the broker takes no messages. A client of this kind sees that it does, and no longer does, when it asks or publishes.
    pub(crate) fn blocked(&self) -> Option<&'static str> {
        let blocks = self.line.world.now().blocks();
        match blocks {
            Some(why) => drop(self.block.begin(why)),
            None => self.block.end(),
        }
        blocks
    }

    async fn dial(&self) -> Result<Born> {
        let mut dialing = self.dialing.lock().await;
        loop {
            if let Some(start) = dialing.not_before {
                sleep_until(start).await;
            }
            if self.closed.load(SeqCst) {
                return Err(Error::Closed);
            }
            if let Some((born, restored)) = self.line.connect(self.client) {
                if restored {
                    self.tell_restored();
                }
                *dialing = Dialing::default();
                return Ok(born);
            }
            dialing.not_before = Some(Instant::now() + dialing.pause);
            dialing.pause = (dialing.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One call, by its deadline.
    ///
    /// # Errors
    /// What the broker answered; else `Unavailable` or `Timeout`, and whether it had an effect.
    pub(crate) async fn call<A: Send + 'static>(
        &self,
        request: Request,
        work: Work<A>,
        answer: Answer<A>,
    ) -> Result<A> {
        let sent = AtomicBool::new(false);
        let call = async {
            let born = self.dial().await?;
            if request.effect == Effect::Publishes {
                self.blocked();
                self.line.world.until(|it| (!it.alarm).then_some(())).await;
            }
            sent.store(true, SeqCst);
            let is_well = self.line.is_clear() && self.line.world.now().is_well();
            let exchange = exchange(self.line.clone(), born, request, work, answer);
            if is_well { exchange.run().await } else { exchange.run_whoever_waits().await }
        };
        let closed = self.line.world.until(|_| self.closed.load(SeqCst).then_some(()));
        let ends = async {
            tokio::select! {
                biased;
                answer = call => answer,
                () = closed => Err(Error::Closed),
            }
        };
        match timeout(self.deadline.saturating_add(request.wait), ends).await {
            Ok(answer) => answer,
            Err(_) if sent.load(SeqCst) => {
                Err(Error::timeout(request.what, self.deadline, Certainty::Unknown))
            }
            Err(_) if self.line.world.now().alarm => Err(away("the broker blocks whoever publishes")),
            Err(_) => Err(away("no connection")),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.line.leave(self.client);
    }
}

/// A request on its way, and its answer.
struct Exchange<A> {
    line: Arc<Line>,
    born: Born,
    request: Request,
    work: Work<A>,
    answer: Answer<A>,
}

fn exchange<A>(
    line: Arc<Line>,
    born: Born,
    request: Request,
    work: Work<A>,
    answer: Answer<A>,
) -> Exchange<A> {
    Exchange { line, born, request, work, answer }
}

impl<A: Send + 'static> Exchange<A> {
    /// What is under way goes on when its caller has gone.
    async fn run_whoever_waits(self) -> Result<A> {
        let unread = self.answer.unread.clone();
        let (done, wait) = oneshot::channel();
        tokio::spawn(async move {
            let answered = done.send(self.run().await);
            if let (Err(Ok(answer)), Some(unread)) = (answered, unread) {
                unread(answer).await;
            }
        });
        wait.await.unwrap_or_else(|_| Err(lost("the runtime ended")))
    }

    async fn run(self) -> Result<A> {
        let Self { line, born, request, work, answer } = self;
        // The broker does not look again because something passed on a line: only what is told goes on.
        let mut work = FuturesUnordered::from_iter([work]);
        let arrived = line.pass(born, Direction::ToBroker, request.bytes).await;
        arrived.map_err(|Ended| away("the connection ended before the request had arrived"))?;
        running(&line, born)
            .await
            .map_err(|Ended| away("the connection ended before the request was read"))?;
        refused(&line, request.effect)?;
        let ended = line.world.until(|it| (!line.lives(it, born)).then_some(()));
        let done = tokio::select! {
            biased;
            Some(done) = work.next() => done,
            () = ended => return Err(lost("the connection ended before the answer")),
        };
        let Answer { bytes, unread } = answer;
        let bytes = done.as_ref().map_or(size::EMPTY, bytes);
        let (answer, failed) = done.map_or_else(|error| (None, Some(error)), |it| (Some(it), None));
        let mut held = Held { answer, unread };
        let answered = async {
            running(&line, born).await?;
            line.pass(born, Direction::ToClient, bytes).await
        };
        answered.await.map_err(|Ended| lost("the connection ended before the answer"))?;
        match (failed, held.answer.take()) {
            (None, Some(it)) => Ok(it),
            (Some(error), _) => Err(error),
            (None, None) => Err(lost("the answer was lost")),
        }
    }
}

/// Waits while the broker is stopped from running.
async fn running(line: &Line, born: Born) -> std::result::Result<(), Ended> {
    line.world
        .until(|it| if line.lives(it, born) { (!it.paused).then_some(Ok(())) } else { Some(Err(Ended)) })
        .await
}

/// # Errors
/// What a broker in trouble does not do, before it does anything.
fn refused(line: &Line, effect: Effect) -> Result<()> {
    let condition = line.world.now();
    match effect {
        Effect::Reads => Ok(()),
        _ if condition.read_only => Err(away("the broker is read only")),
        Effect::Publishes | Effect::Grows if condition.out_of_memory => {
            Err(away("the broker is out of memory"))
        }
        _ => Ok(()),
    }
}

fn away(why: &'static str) -> Error {
    Error::unavailable(NAME, Certainty::Definite, why)
}

fn lost(why: &'static str) -> Error {
    Error::unavailable(NAME, Certainty::Unknown, why)
}

/// An answer on its way: dropped there, it is given to who makes good what nobody read.
struct Held<A: Send + 'static> {
    answer: Option<A>,
    unread: Option<Unread<A>>,
}

impl<A: Send + 'static> Drop for Held<A> {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(answer), Some(unread), Ok(runtime)) = (self.answer.take(), self.unread.take(), runtime) {
            runtime.spawn(unread(answer));
        }
    }
}
