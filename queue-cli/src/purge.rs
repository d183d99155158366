//! `polyqueue purge`: removes what waits.

use polyqueue::{Purge, Queue, QueueName};
use serde_json::json;

use crate::args::Output;
use crate::exit::{Exit, Result};

pub(crate) async fn run(queue: &dyn Queue, name: &QueueName, yes: bool, output: Output) -> Result<()> {
    if !yes {
        return Err(Exit::Usage(format!(
            "purge removes every waiting message of {name:?} for good: add --yes"
        )));
    }
    let purged = queue.purge(name, Purge::Waiting).await?;
    match output {
        Output::Json => println!("{}", json!({ "queue": name, "purged": purged })),
        Output::Table => println!("{purged} removed from {name}"),
    }
    Ok(())
}
