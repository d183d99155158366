//! `polyqueue move`: messages of one queue to another; each is acknowledged after the other queue has it.

use std::time::Duration;

use polyqueue::{
    Consumer, Delivery, Destination, Published, Queue, Receipt, Result as Answer, Subscription, Verdict,
};
use serde_json::json;

use crate::args::{Move, Output};
use crate::exit::{Exit, Result};
use crate::progress::Progress;
use crate::{broker, stdout, stop};

/// How many messages one call carries at most: few, so that their lease never ends under way.
const BATCH: u64 = 64;

pub(crate) async fn run(queue: &dyn Queue, args: &Move, output: Output) -> Result<()> {
    if args.from == args.to {
        return Err(Exit::Usage(format!("{:?} is both FROM and TO: give two queues", args.from)));
    }
    let Some(mut like) = broker::find(queue, &args.from).await? else {
        return Err(Exit::NothingThere(format!("no queue {:?} in this namespace", args.from)));
    };
    // With its bindings the other queue would get messages of its own.
    (like.name, like.bindings) = (args.to.clone(), Default::default());
    broker::ensure_declared(queue, like).await?;
    let subscription = Subscription::new(args.from.clone()).consumer("polyqueue move").lease(args.lease);
    let consumer = queue.subscribe(&subscription).await?;
    let stop = stop::requested()?;
    let progress = Progress::new("moved");
    let mut transfer = Transfer { queue, consumer: &*consumer, args, progress: &progress, moved: 0 };
    let ended = {
        let moving = progress.during(transfer.run());
        tokio::pin!(stop, moving);
        tokio::select! {
            ended = &mut moving => ended,
            () = &mut stop => {
                consumer.close().await?;
                moving.await
            }
        }
    };
    let moved = transfer.moved;
    match output {
        Output::Json => stdout::line(json!({ "from": args.from, "to": args.to, "moved": moved }))?,
        Output::Table => stdout::line(format_args!("{moved} moved from {} to {}", args.from, args.to))?,
    }
    match moved {
        0 if ended.is_ok() => Err(Exit::NothingThere(format!("no message waits in {:?}", args.from))),
        _ => ended,
    }
}

struct Transfer<'a> {
    queue: &'a dyn Queue,
    consumer: &'a dyn Consumer,
    args: &'a Move,
    progress: &'a Progress,
    moved: u64,
}

impl Transfer<'_> {
    /// Until there is no more, there were enough, or one could not be moved.
    async fn run(&mut self) -> Result<()> {
        let max = self.args.max.unwrap_or(u64::MAX);
        while self.moved < max {
            let at_most = (max - self.moved).min(BATCH) as usize;
            let batch = self.consumer.receive(at_most, self.args.wait).await?;
            if batch.is_empty() {
                break;
            }
            self.carry(&batch).await?;
        }
        Ok(())
    }

    async fn carry(&mut self, batch: &[Delivery]) -> Result<()> {
        let messages = batch.iter().map(|delivery| (*delivery.message).clone()).collect();
        let answers = match self.queue.publish(&Destination::from(&self.args.to), messages).await {
            Ok(answers) => answers,
            Err(error) => {
                self.settle(batch.iter().map(|delivery| (delivery.receipt.clone(), back()))).await?;
                return Err(error.into());
            }
        };
        let mut failed = None;
        let verdicts: Vec<(Receipt, Verdict)> = batch
            .iter()
            .zip(answers)
            .map(|(delivery, answer)| match self.arrived(delivery, answer) {
                Ok(()) => (delivery.receipt.clone(), Verdict::Ack),
                Err(exit) => {
                    failed.get_or_insert(exit);
                    (delivery.receipt.clone(), back())
                }
            })
            .collect();
        let arrived = verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Ack).count() as u64;
        self.settle(verdicts).await?;
        self.moved += arrived;
        self.progress.add(arrived);
        failed.map_or(Ok(()), Err)
    }

    /// A message that another one's dedup key kept out of the queue is not there.
    fn arrived(&self, delivery: &Delivery, answer: Answer<Published>) -> Result<()> {
        let id = delivery.message.id();
        match answer?.duplicate_of {
            Some(first) if first != *id => Err(Exit::Failed(format!(
                "{id} stays in {:?}: {:?} has {first} under the same dedup key",
                self.args.from, self.args.to
            ))),
            _ => Ok(()),
        }
    }

    async fn settle(&self, verdicts: impl IntoIterator<Item = (Receipt, Verdict)>) -> Result<()> {
        let verdicts: Vec<_> = verdicts.into_iter().collect();
        for answer in self.consumer.settle(&verdicts).await? {
            answer?;
        }
        Ok(())
    }
}

/// Back to where it came from, no attempt counted.
fn back() -> Verdict {
    Verdict::Release { after: Duration::ZERO }
}
