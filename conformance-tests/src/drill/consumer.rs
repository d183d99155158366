//! A client that consumes, and does with each message what that wants.

use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::{Consumer, Delivery, Queue, Receipt, Subscription, Verdict};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::entry::{Ended, Handout, What, Word};
use super::journal::Journal;
use super::setting::{LEASE, PACE, Place, queue_name};
use super::site::Site;
use super::task::Task;
use crate::Rng;

const WAIT: Duration = Duration::from_millis(500);
const AT_ONCE: usize = 5;
/// What a handler takes at most: without it nobody would ever be killed with a message in hand.
const WORK: Duration = Duration::from_millis(40);
/// Hand-outs of one life of a consumer, at most.
const HOLDS_OF_A_LIFE: u64 = 1 << 32;
const LIVES: u64 = 1 << 20;

/// Consumes until it is told to end.
pub(super) async fn consume(place: Place, site: &dyn Site, journal: Journal, ended: CancellationToken) {
    let Some(queue) = place.open(site, &journal, &ended).await else { return };
    let Some(consumer) = subscribed(&place, &*queue, &journal, &ended).await else { return };
    let mut rng = Rng::new(place.seed);
    let mut next = (place.nth as u64 * LIVES + place.life) * HOLDS_OF_A_LIFE;
    while !ended.is_cancelled() {
        let asked = journal.now();
        match consumer.receive(AT_ONCE, WAIT).await {
            Ok(came) => {
                let noted = noted(&place, &journal, asked, &mut next, &came);
                if !noted.is_empty() {
                    sleep(WORK.mul_f64(rng.unit())).await;
                    settle(&*consumer, &journal, &noted).await;
                }
            }
            Err(error) => {
                journal.note_unless_passing("receive", &error);
                sleep(PACE).await;
            }
        }
    }
    let _ = consumer.close().await;
    let _ = queue.close().await;
}

async fn subscribed(
    place: &Place,
    queue: &dyn Queue,
    journal: &Journal,
    ended: &CancellationToken,
) -> Option<Box<dyn Consumer>> {
    // No fault makes a dead letter of what does not want to be one.
    let subscription = Subscription::new(queue_name(place.own_queue()).ok()?)
        .lease(LEASE)
        .max_attempts(NonZeroU32::MAX)
        .consumer("polyqueue drill");
    while !ended.is_cancelled() {
        match queue.subscribe(&subscription).await {
            Ok(consumer) => return Some(consumer),
            Err(error) => journal.note_unless_passing("subscribe", &error),
        }
        sleep(PACE).await;
    }
    None
}

/// Writes hand-outs down; answers those that want a verdict, with it.
fn noted(
    place: &Place,
    journal: &Journal,
    asked: Duration,
    next: &mut u64,
    came: &[Delivery],
) -> Vec<(u64, Receipt, Verdict)> {
    let mut wanted = Vec::new();
    for delivery in came {
        let hold = *next;
        *next += 1;
        journal.note(What::Came(Handout {
            hold,
            consumer: place.nth,
            queue: place.own_queue(),
            id: delivery.message.id().to_string(),
            attempt: delivery.attempt,
            asked,
            until: journal.moment(delivery.lease_until),
        }));
        let task = Task::of(&delivery.message).unwrap_or(Task::Ack);
        if let Some(verdict) =
            task.verdict(delivery.attempt).filter(|_| delivery.lease_until > Instant::now())
        {
            wanted.push((hold, delivery.receipt.clone(), verdict));
        }
    }
    wanted
}

async fn settle(consumer: &dyn Consumer, journal: &Journal, wanted: &[(u64, Receipt, Verdict)]) {
    for (hold, _, verdict) in wanted {
        journal.note(What::Settling { hold: *hold, word: Word::of(verdict) });
    }
    let verdicts: Vec<_> =
        wanted.iter().map(|(_, receipt, verdict)| (receipt.clone(), verdict.clone())).collect();
    let answers = match consumer.settle(&verdicts).await {
        Ok(answers) => answers,
        Err(error) => wanted.iter().map(|_| Err(error.clone())).collect(),
    };
    if answers.len() != wanted.len() {
        let error = format!("settle: {} answers to {} verdicts", answers.len(), wanted.len());
        journal.note(What::Trouble { error });
    }
    for ((hold, ..), answer) in wanted.iter().zip(&answers) {
        if let Err(error) = answer {
            journal.note_unless_passing("settle", error);
        }
        journal.note(What::Settled { hold: *hold, told: Ended::of(answer) });
    }
}
