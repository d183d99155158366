//! One task owns a consumer's channel: it fetches, acks, ends leases, and comes back after a loss.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicQosOptions;
use polyqueue::backend::{Entered, Jitter};
use polyqueue::{Error, Result, Settled};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::connection::fault::{is_missing, of_a_closed_channel};
use crate::connection::session::Session;
use crate::consume::channel_loop::ChannelLoop;
use crate::consume::state::{ConsumerState, Job};
use crate::topology::revival::revive;

/// The pause before a channel is opened again that could not be opened or was lost soon, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A channel that served so long was not lost by what it was sent.
const STEADY: Duration = Duration::from_secs(10);
/// How long to wait when the broker refuses for good.
const REFUSED: Duration = Duration::from_secs(1);

/// Runs until the consumer or its handle is gone.
pub(crate) async fn run(reader: Arc<ConsumerState>, mut jobs: mpsc::UnboundedReceiver<Job>, _alive: Entered) {
    let (mut epoch, mut losses) = (0, Losses::default());
    loop {
        let (session, channel) = tokio::select! {
            biased;
            attached = attach(&reader) => attached,
            () = refuse_all(&reader, &mut jobs) => return,
        };
        epoch += 1;
        losses.begin();
        let end = ChannelLoop::new(reader.clone(), session.clone(), channel, epoch).serve(&mut jobs).await;
        reader.hand_out.lose(epoch);
        match end {
            Ok(()) => return,
            Err(error) if is_missing(&error) => {
                let pause = losses.pause();
                tokio::select! {
                    () = there_or_asked_again(&reader, pause) => {}
                    () = refuse_all(&reader, &mut jobs) => return,
                }
            }
            Err(error) => {
                session.note(&error);
                let error = of_a_closed_channel(session.fault(&error));
                tracing::warn!(name: "rabbitmq.consumer_lost", queue = %reader.queue(), %error, "a consumer was lost and is made again");
                let refused = if error.is_transient() { Duration::ZERO } else { REFUSED };
                reader.hand_out.pending.set_trouble(Some(error));
                tokio::select! {
                    () = sleep(losses.pause().max(refused)) => {}
                    () = refuse_all(&reader, &mut jobs) => return,
                }
            }
        }
    }
}

/// How often a channel was lost soon after it had begun.
#[derive(Default)]
struct Losses {
    begun: Option<Instant>,
    soon: u32,
}

impl Losses {
    fn begin(&mut self) {
        self.begun = Some(Instant::now());
    }

    /// What kills its channel, a message that cannot be read for example, does so again and again.
    fn pause(&mut self) -> Duration {
        if self.begun.is_some_and(|begun| begun.elapsed() >= STEADY) {
            self.soon = 0;
        }
        let pause = Jitter::default().backoff(FIRST_PAUSE, LONGEST_PAUSE, self.soon);
        self.soon = self.soon.saturating_add(1);
        pause
    }
}

/// The queue is gone. Where it went with everything else on the broker it is declared again.
async fn there_or_asked_again(reader: &ConsumerState, pause: Duration) {
    match timeout(reader.handle().deadline, revive(reader.topology(), reader.queue())).await {
        Ok(Ok(true)) => sleep(pause).await,
        Ok(Ok(false)) => asked_again(reader).await,
        Ok(Err(error)) => {
            reader.hand_out.pending.set_trouble(Some(error));
            sleep(pause).await;
        }
        Err(_) => sleep(pause).await,
    }
}

/// Whoever asks is told that it is gone, one question each; it may be declared again.
async fn asked_again(reader: &ConsumerState) {
    reader.hand_out.pending.fail(&Error::not_found(reader.queue().clone()));
    while reader.hand_out.pending.demand().is_none() {
        reader.hand_out.pending.changed().await;
    }
}

/// A channel on a living connection, however long it takes.
async fn attach(reader: &ConsumerState) -> (Arc<Session>, Channel) {
    let (chance, mut failures) = (Jitter::default(), 0);
    loop {
        match try_attach(reader).await {
            Ok(attached) => return attached,
            Err(error) => {
                let pause = if error.is_transient() { Duration::ZERO } else { REFUSED };
                reader.hand_out.pending.set_trouble(Some(error));
                sleep(pause.max(chance.backoff(FIRST_PAUSE, LONGEST_PAUSE, failures))).await;
                failures = failures.saturating_add(1);
            }
        }
    }
}

async fn try_attach(reader: &ConsumerState) -> Result<(Arc<Session>, Channel)> {
    let session = reader.link.session(reader.handle().until()).await?;
    let channel = session.channel().await?;
    let prefetch = u16::try_from(reader.subscription.prefetch.max(1)).unwrap_or(u16::MAX);
    let set = channel.basic_qos(prefetch, BasicQosOptions::default());
    session.answers.answered("a consumer's prefetch", set).await.map_err(|e| {
        session.note(&e);
        of_a_closed_channel(session.fault(&e))
    })?;
    Ok((session, channel))
}

/// Answers while there is no channel; ends when nobody needs the consumer any more.
async fn refuse_all(reader: &ConsumerState, jobs: &mut mpsc::UnboundedReceiver<Job>) {
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                None => return,
                Some(Job::Settle(job)) => drop(job.reply.send(Ok(Settled::LeaseLost))),
                Some(Job::Close(reply)) => {
                    reader.hand_out.close();
                    let _ = reply.send(());
                }
            },
            () = reader.handle().closed() => return,
        }
    }
}
