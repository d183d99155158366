//! How long an answer is waited for, and what a connection is worth that brings none.

use std::time::Duration;

use polyqueue::Certainty;
use polyqueue::backend::{Deadline, later};
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::fault::Fault;
use crate::connection::handshake::Line;
use crate::connection::progress::Asked;

/// So many times its deadline what brings much may take while bytes come …
const MUCH_LONGER: u32 = 30;
/// … with pauses no longer than this …
const LONGEST_QUIET: Duration = Duration::from_secs(5);
/// … looked for so often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Ends when there is no hope for an answer: at the deadline, or, of what brings much and has `within` for each part, when no more comes.
pub(super) async fn overdue(line: &Line, limit: &Deadline, asked: Asked, much: Option<Duration>) {
    sleep_until(limit.until()).await;
    let Some(within) = much else { return };
    let last = later(limit.until(), within.saturating_mul(MUCH_LONGER));
    let may_come = || {
        let quiet = line.progress.quiet() >= within.min(LONGEST_QUIET);
        Instant::now() < last && !quiet && !line.progress.is_passed_over(asked)
    };
    while may_come() {
        sleep(LOOK_AGAIN).await;
    }
}

/// What has no answer in time. Only when nothing has come for about as long as the longest call may take is the connection dead:
/// a caller who could not wait for long does no harm to the others.
pub(super) fn late(line: &Line, limit: &Deadline, longest: Duration) -> Fault {
    let error = limit.error(Certainty::Unknown);
    let is_dead = line.progress.silence() >= longest.mul_f64(0.9);
    if is_dead { Fault::Silent(error) } else { Fault::Late(error) }
}
