//! `polyqueue consume`: messages on standard output, one JSON object a line.

use std::time::Duration;

use polyqueue::{Consumer, Delivery, Queue, Receipt, Subscription, Verdict};

use crate::args::{Consume, SettleBy};
use crate::exit::{Exit, Result};
use crate::progress::Progress;
use crate::{broker, show, stdout, stop};

/// How many messages one call brings at most: they are printed at once.
const BATCH: u64 = 16;

pub(crate) async fn run(queue: &dyn Queue, args: &Consume) -> Result<()> {
    broker::ensure_declared(queue, args.queue.clone()).await?;
    let subscription = Subscription::new(args.queue.clone()).consumer("polyqueue consume").lease(args.lease);
    let consumer = queue.subscribe(&subscription).await?;
    let stop = stop::requested()?;
    let progress = Progress::new("printed");
    let printing = progress.beside_lines(print_all(&*consumer, args, &progress));
    tokio::pin!(stop, printing);
    let printed = tokio::select! {
        printed = &mut printing => printed?,
        () = &mut stop => {
            consumer.close().await?;
            printing.await?
        }
    };
    match printed {
        0 => Err(Exit::NothingThere(format!("no message came from {:?} within {:?}", args.queue, args.wait))),
        _ => Ok(()),
    }
}

async fn print_all(consumer: &dyn Consumer, args: &Consume, progress: &Progress) -> Result<u64> {
    let max = args.max.unwrap_or(u64::MAX);
    let mut printed = 0;
    while printed < max {
        let deliveries = consumer.receive((max - printed).min(BATCH) as usize, args.wait).await?;
        if deliveries.is_empty() {
            break;
        }
        printed += deliveries.len() as u64;
        print(consumer, &deliveries, args.settle).await?;
        progress.add(deliveries.len() as u64);
    }
    Ok(printed)
}

/// Prints, then settles; what could not be printed goes back.
async fn print(consumer: &dyn Consumer, deliveries: &[Delivery], settle: SettleBy) -> Result<()> {
    let written = write(deliveries);
    let verdict = match (&written, settle) {
        (Err(_), _) => Verdict::Release { after: Duration::ZERO },
        (Ok(()), SettleBy::Ack) => Verdict::Ack,
        (Ok(()), SettleBy::Retry) => Verdict::retry(Duration::ZERO, "retried by polyqueue consume"),
        (Ok(()), SettleBy::Reject) => Verdict::reject("rejected by polyqueue consume"),
        (Ok(()), SettleBy::None) => return Ok(()),
    };
    let verdicts: Vec<(Receipt, Verdict)> =
        deliveries.iter().map(|delivery| (delivery.receipt.clone(), verdict.clone())).collect();
    for answer in consumer.settle(&verdicts).await? {
        answer?;
    }
    written
}

fn write(deliveries: &[Delivery]) -> Result<()> {
    let lines: Vec<String> =
        deliveries.iter().map(|delivery| show::json(&show::Line::from(delivery))).collect::<Result<_>>()?;
    stdout::lines(lines)
}
