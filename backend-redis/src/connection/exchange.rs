//! One command, and the wait for its answer.

use std::time::Duration;

use polyqueue::backend::Deadline;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::connection::answers::Answers;
use crate::connection::fault;
use crate::connection::fault::Fault;
use crate::connection::handshake::Line;
use crate::connection::lateness::{late, overdue};
use crate::connection::state::State;
use crate::wire::reply::Reply;

/// A connection that is given up, for the server takes no writes any more, may still bring the answers to what is under way.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// Where an answer is waited for, and how long.
pub(super) struct Wait<'a> {
    pub(super) line: &'a Line,
    pub(super) limit: &'a Deadline,
    /// How long each part may take of what may bring much.
    pub(super) much: Option<Duration>,
    /// What the longest call may take.
    pub(super) longest: Duration,
}

impl Wait<'_> {
    /// Sends a command, and waits for its answer, or until the connections of this generation are not those that there are.
    pub(super) async fn exchange(
        self,
        answers: &Answers,
        command: &redis::Cmd,
        mut states: watch::Receiver<State>,
        generation: u64,
    ) -> Result<Reply, Fault> {
        let Self { line, limit, much, longest } = self;
        let mut connection = line.connection.clone();
        let asked = line.progress.asked();
        let _open = much.is_none().then(|| answers.begin(limit.what()));
        let lost = |state: &State| !matches!(state, State::Closed) && !state.is_up(generation);
        tokio::select! {
            biased;
            answer = answers.heard(limit.what(), connection.send_packed_command(command)) => {
                line.progress.answered(asked);
                fault::read(answer)
            }
            never = answers.passed_over(limit.what(), &line.progress, asked), if much.is_some() => match never {},
            () = async {
                let _ = states.wait_for(lost).await;
                sleep(LAST_ANSWERS).await;
            } => Err(Fault::Lost("the connection was lost".into())),
            () = overdue(line, limit, asked, much) => Err(late(line, limit, longest)),
        }
    }
}
