//! `polyqueue request`: replies on standard output, one JSON object a line.

use std::sync::Arc;

use polyqueue::{Message, Queue, Requester};

use crate::args::Request;
use crate::exit::{Exit, Result};
use crate::{publish, show, stdout};

pub(crate) async fn run(queue: &Arc<dyn Queue>, args: &Request) -> Result<()> {
    let (to, typed) = args.target.read()?;
    let message = args.envelope.around(publish::body(typed).await?);
    let requester = Requester::open(queue.clone()).await?;
    let replies = requester.ask_many(to.clone(), message, args.replies.into(), args.timeout).await?;
    if replies.is_empty() {
        return Err(Exit::Failed(format!(
            "no reply from {to} within {:?}\n  next: see that somebody works there and answers, and what its dead letters say",
            args.timeout
        )));
    }
    for reply in replies {
        print(&reply?)?;
    }
    Ok(())
}

fn print(reply: &Message) -> Result<()> {
    stdout::line(show::json(&show::Reply::from(reply))?)
}
