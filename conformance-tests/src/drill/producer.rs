//! A client that publishes.

use std::time::Duration;

use polyqueue::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::entry::{Told, What};
use super::journal::Journal;
use super::setting::{PACE, Place, queue_name};
use super::site::Site;
use super::task::Task;
use crate::Rng;

/// The longest delay.
const LONGEST: u64 = 3_000;

/// Publishes until it is told to end.
pub(super) async fn produce(place: Place, site: &dyn Site, journal: Journal, ended: CancellationToken) {
    let Some(queue) = place.open(site, &journal, &ended).await else { return };
    let mut rng = Rng::new(place.seed);
    while !ended.is_cancelled() {
        let to = rng.below(place.queues as u64) as usize;
        let Ok(name) = queue_name(to) else { return };
        let delay = if rng.chance(0.2) { Duration::from_millis(rng.below(LONGEST)) } else { Duration::ZERO };
        let (task, bytes) = (Task::any(&mut rng), rng.below(300) as usize);
        let message = task.message(rng.bytes(bytes), delay);
        let id = message.id().to_string();
        let producer = place.nth;
        journal.note(What::Publishing { producer, id: id.clone(), queue: to, delay, task });
        let answer = queue.publish(&(&name).into(), vec![message]).await.and_then(|mut answers| {
            answers.pop().unwrap_or_else(|| {
                Err(Error::invalid("publish", "one message has one answer; the backend gave none"))
            })
        });
        let told = match answer {
            Ok(_) => Told::Stored,
            Err(error) => {
                journal.note_unless_passing("publish", &error);
                Told::of(&error)
            }
        };
        journal.note(What::Published { id, told });
        sleep(PACE.mul_f64(0.5 + rng.unit())).await;
    }
    let _ = queue.close().await;
}
