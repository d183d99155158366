//! The life of a client's mover: a connection, the time, the turn, moving; and again after whatever went wrong.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use polyqueue::backend::Jitter;
use polyqueue::{Certainty, Error, Result};
use tokio::time::{Instant, sleep};

use crate::address::NAME;
use crate::connection::handle::Handle;
use crate::connection::link::Link;
use crate::connection::publisher::Publisher;
use crate::connection::session::Session;
use crate::delay::active::Active;
use crate::delay::ending::Ending;
use crate::delay::ensure::{ensure, ensure_clock, has_clock};
use crate::delay::probe::Prober;
use crate::delay::shared::{Role, Shared};
use crate::delay::turn::Turn;

/// Seconds between heartbeats: a client that stands still is missed after two.
const HEARTBEAT: u16 = 2;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The same while nobody delays, and the time is not needed yet.
const UNUSED_PAUSE: Duration = Duration::from_secs(30);
/// How long a connection may take, and what is declared over it.
const LIMIT: Duration = Duration::from_secs(10);
/// How long an orderly end may take.
const END: Duration = Duration::from_secs(2);

/// Why it moves no more.
enum End {
    /// It was to end.
    Closed,
    Failed(Error),
}

/// Goes on until it is to end.
pub(crate) async fn run(shared: Arc<Shared>, handle: Arc<Handle>, ending: Ending) {
    // A close waits for the end of what is under way here.
    let entered = handle.lifecycle.enter();
    let link = handle.link("mover", HEARTBEAT);
    let jitter = Jitter::default();
    let mut failures = 0;
    loop {
        let (mut session, began) = (None, Instant::now());
        let serving =
            AssertUnwindSafe(serve(&shared, &handle, (&link, &ending), &mut session)).catch_unwind();
        // One message that nobody thought of must not stop all others in the virtual host.
        let end = serving.await.unwrap_or_else(|panic| End::Failed(panicked(&*panic)));
        shared.set_role(Role::Beginning);
        let error = match end {
            End::Closed => {
                drop(entered);
                return link.close(END).await;
            }
            End::Failed(error) => error,
        };
        tracing::debug!(name: "rabbitmq.mover_failed", %error, "moves nothing that is delayed for now, and begins again");
        if let Some(session) = session {
            session.end(END).await;
        }
        failures = if began.elapsed() > LIMIT { 0 } else { failures + 1 };
        let longest = if shared.is_used() { LONGEST_PAUSE } else { UNUSED_PAUSE };
        tokio::select! {
            () = sleep(jitter.backoff(FIRST_PAUSE, longest, failures)) => {}
            () = shared.used(), if !shared.is_used() => {}
            () = ending.ended() => return,
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let said = format!("what moves delayed messages panicked: {}", text.unwrap_or_default());
    tracing::error!(name: "rabbitmq.mover_panicked", %said, "a defect of this library; it begins again, and may meet the same message: report it");
    Error::backend(NAME, Certainty::Unknown, said)
}

async fn serve(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    (link, ending): (&Link, &Ending),
    place: &mut Option<Arc<Session>>,
) -> End {
    let begun = async {
        // A broker that is away is tried by one of a client's connections.
        handle.publisher().await?;
        let session = link.session(Instant::now() + LIMIT).await?;
        *place = Some(session.clone());
        let publisher = Publisher::open(&session, &handle.address).await?;
        let prober = tell_the_time(shared, handle, &session).await?;
        Ok((session, publisher, prober))
    };
    let (session, publisher, mut prober) = tokio::select! {
        begun = begun => match begun {
            Ok(begun) => begun,
            Err(error) => return End::Failed(error),
        },
        () = ending.ended() => return End::Closed,
    };
    let keep = prober.keep(&shared.clock);
    let work = async {
        tokio::select! {
            () = shared.used() => {}
            () = ending.ended() => return End::Closed,
        }
        match ensure(handle.control(), &publisher, Instant::now() + LIMIT).await {
            Ok(()) => stand_by_and_move(shared, (handle, ending), &session, publisher).await,
            Err(error) => End::Failed(error),
        }
    };
    tokio::select! {
        kept = keep => End::Failed(kept.map_or_else(|error| session.fault(&error), |()| Error::Closed)),
        end = work => end,
    }
}

/// Knows the broker's time. Where nothing comes back, what sends probes back may be missing.
async fn tell_the_time(shared: &Shared, handle: &Handle, session: &Session) -> Result<Prober> {
    if !has_clock(handle.control()).await? {
        ensure_clock(handle.control()).await?;
    }
    let sharpened = async || {
        let mut prober = Prober::begin(session).await?;
        prober.sharpen(&shared.clock).await?;
        Ok::<_, lapin::Error>(prober)
    };
    if let Ok(prober) = sharpened().await {
        return Ok(prober);
    }
    ensure_clock(handle.control()).await?;
    sharpened().await.map_err(|error| session.fault(&error))
}

async fn stand_by_and_move(
    shared: &Arc<Shared>,
    (handle, ending): (&Arc<Handle>, &Ending),
    session: &Arc<Session>,
    publisher: Publisher,
) -> End {
    let turn = tokio::select! {
        turn = Turn::take(session, || shared.set_role(Role::StandingBy)) => turn,
        () = ending.ended() => return End::Closed,
    };
    let turn = match turn {
        Ok(turn) => turn,
        Err(error) => return End::Failed(session.fault(&error)),
    };
    shared.set_role(Role::Moving);
    let active = Active::begin(shared.clone(), handle.clone(), session.clone(), publisher).await;
    let moved = match active {
        Ok(active) => active.run(turn, ending).await,
        Err(error) => Err(error),
    };
    match moved {
        Ok(()) => End::Closed,
        Err(error) => End::Failed(error),
    }
}
