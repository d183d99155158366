//! `polyqueue purge`: removes what waits.

use polyqueue::{Purge, Queue, QueueName};
use serde_json::json;

use crate::args::Output;
use crate::exit::{Exit, Result};
use crate::progress::Progress;
use crate::stdout;

pub(crate) async fn run(queue: &dyn Queue, name: &QueueName, yes: bool, output: Output) -> Result<()> {
    if !yes {
        return Err(Exit::Usage(format!(
            "purge removes every waiting message of {name:?} for good: add --yes"
        )));
    }
    let purged = Progress::new("removed").during(queue.purge(name, Purge::Waiting)).await?;
    match output {
        Output::Json => stdout::line(json!({ "queue": name, "purged": purged })),
        Output::Table => stdout::line(format_args!("{purged} removed from {name}")),
    }
}
