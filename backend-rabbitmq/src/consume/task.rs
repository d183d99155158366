//! One task owns a consumer's channel: it fetches, acks, ends leases, and comes back after a loss.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicQosOptions;
use polyqueue::backend::Entered;
use polyqueue::{Error, Result, Settled};
use tokio::sync::mpsc;

use crate::connection::fault::is_missing;
use crate::connection::link::Session;
use crate::consume::channel_loop::ChannelLoop;
use crate::consume::state::{ConsumerState, Job};

/// How long to wait when the broker refuses for good.
const REFUSED: Duration = Duration::from_secs(1);

/// Runs until the consumer or its handle is gone.
pub(crate) async fn run(reader: Arc<ConsumerState>, mut jobs: mpsc::UnboundedReceiver<Job>, _alive: Entered) {
    let mut epoch = 0;
    loop {
        let (session, channel) = tokio::select! {
            biased;
            attached = attach(&reader) => attached,
            () = refuse_all(&reader, &mut jobs) => return,
        };
        epoch += 1;
        let end = ChannelLoop::new(reader.clone(), session.clone(), channel, epoch).serve(&mut jobs).await;
        reader.hand_out.lose(epoch);
        match end {
            Ok(()) => return,
            Err(error) if is_missing(&error) => {
                tokio::select! {
                    () = asked_again(&reader) => {}
                    () = refuse_all(&reader, &mut jobs) => return,
                }
            }
            Err(error) => tracing::warn!(
                name: "rabbitmq.consumer_lost", queue = %reader.queue(), error = %session.fault(&error), "a consumer was lost and is made again"),
        }
    }
}

/// The queue is gone. Whoever asks is told so, one question each; it may be declared again.
async fn asked_again(reader: &ConsumerState) {
    reader.hand_out.pending.fail(&Error::not_found(reader.queue().clone()));
    while reader.hand_out.pending.demand().is_none() {
        reader.hand_out.pending.changed().await;
    }
}

/// A channel on a living connection, however long it takes.
async fn attach(reader: &ConsumerState) -> (Arc<Session>, Channel) {
    loop {
        match try_attach(reader).await {
            Ok(attached) => {
                reader.hand_out.pending.set_trouble(None);
                return attached;
            }
            Err(error) => {
                let permanent = !error.is_transient();
                reader.hand_out.pending.set_trouble(Some(error));
                if permanent {
                    tokio::time::sleep(REFUSED).await;
                }
            }
        }
    }
}

async fn try_attach(reader: &ConsumerState) -> Result<(Arc<Session>, Channel)> {
    let session = reader.link.session(reader.handle().until()).await?;
    let channel = session.channel().await?;
    let prefetch = u16::try_from(reader.subscription.prefetch.max(1)).unwrap_or(u16::MAX);
    channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(|e| session.fault(&e))?;
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
