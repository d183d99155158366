//! `polyqueue bind` and `unbind`: which topics reach a queue.

use polyqueue::{Queue, QueueSpec};
use serde_json::json;

use crate::args::{Binding, Output};
use crate::broker;
use crate::exit::{Exit, Result};
use crate::stdout;

pub(crate) async fn bind(queue: &dyn Queue, args: &Binding, output: Output) -> Result<()> {
    let known = broker::find(queue, &args.queue).await?;
    let mut spec = known.unwrap_or_else(|| QueueSpec::new(args.queue.clone()));
    spec.bindings.extend(args.patterns.iter().cloned());
    queue.declare(&spec).await?;
    print(args, output, "bound", "to")
}

pub(crate) async fn unbind(queue: &dyn Queue, args: &Binding, output: Output) -> Result<()> {
    let known = broker::find(queue, &args.queue).await?.map(|spec| spec.bindings).unwrap_or_default();
    for pattern in &args.patterns {
        // Asks also where there is nothing: the broker's own answer to an unknown queue is the better one.
        queue.unbind(&args.queue, pattern).await?;
    }
    match args.patterns.iter().find(|pattern| !known.contains(pattern)) {
        Some(missing) => Err(Exit::NothingThere(format!("{:?} was not bound to {missing:?}", args.queue))),
        None => print(args, output, "unbound", "from"),
    }
}

fn print(args: &Binding, output: Output, done: &str, to: &str) -> Result<()> {
    match output {
        Output::Json => stdout::line(json!({ "queue": args.queue, done: args.patterns })),
        Output::Table => {
            stdout::lines(args.patterns.iter().map(|pattern| format!("{} {done} {to} {pattern}", args.queue)))
        }
    }
}
