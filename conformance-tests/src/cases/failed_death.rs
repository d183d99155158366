//! DLQ: a dead letter cannot be written: the message stays, and dies when it can.

use polyqueue::{DeadReason, Message, Settled, Verdict};

use super::arrival::patience;
use super::dead_letter::only_dead_letter;
use super::fault::next_after_fault;
use super::hand::{PATIENCE, expiring};
use super::ledger::passing;
use crate::verbs::{eventually, publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Fault, Outcome, Part, case, ensure, ensure_eq};

async fn a_death_that_fails(env: Env) -> Outcome {
    let faults = env.faults().await?;
    for fault in [Fault::Kill9, Fault::OutOfMemory, Fault::ReadOnly, Fault::Delete(Part::Dead)] {
        if faults.offer(fault).is_some() {
            fails_by(&env, fault).await.map_err(|fail| Fail::new(format!("{fault:?}: {fail}")))?;
        }
    }
    Ok(())
}

async fn fails_by(env: &Env, fault: Fault) -> Outcome {
    let name = env.queue_name(&format!("{fault:?}").to_lowercase().replace(['(', ')'], "-"));
    let queue = env.open_with(|options| options.deadline(env.t(5.0))).await?;
    queue.declare(&name.clone().into()).await?;
    let consumer = queue.subscribe(&expiring(env, &name).max_attempts(std::num::NonZeroU32::MAX)).await?;
    let id = publish_one(&queue, &name, Message::new("doomed")).await?;
    let held = receive_one(&*consumer, PATIENCE).await?;
    let faults = env.faults().await?;
    faults.apply(fault).await?;
    let verdict = [(held.receipt.clone(), Verdict::reject("not for me"))];
    let answer = consumer.settle(&verdict).await.and_then(|mut answers| answers.remove(0));
    faults.heal().await?;
    match answer {
        // It could be written all the same.
        Ok(Settled::Died) => {}
        // Where a receipt ends with its connection.
        Ok(Settled::LeaseLost) => dies_later(env, &*consumer, &id).await?,
        Ok(other) => return Err(format!("a dead letter was to be written, and answered {other:?}").into()),
        Err(error) => {
            says_why(fault, &error)?;
            dies_later(env, &*consumer, &id).await?;
        }
    }
    let one_is_dead = || async { Ok((queue.stats(&name).await?.dead > 0).then_some(())) };
    eventually(env, patience(env), "the dead letter", one_is_dead).await?;
    let dead = only_dead_letter(&queue, &name).await?;
    ensure_eq!(dead.reason, DeadReason::Rejected, "reason");
    ensure_eq!(dead.message().map(|message| message.id().clone()), Some(id), "who is dead");
    Ok(())
}

/// Its holder is told, in words.
fn says_why(fault: Fault, error: &polyqueue::Error) -> Outcome {
    if !matches!(fault, Fault::Delete(_)) {
        passing(error)?;
    }
    ensure!(error.to_string().len() > 10, "{error} says nothing");
    Ok(())
}

/// It comes again and dies then. An answer that was lost may have been a death.
async fn dies_later(env: &Env, consumer: &dyn polyqueue::Consumer, id: &polyqueue::MessageId) -> Outcome {
    let again = next_after_fault(env, consumer).await?.delivery;
    ensure_eq!(again.message.id(), id, "what came again");
    let died = settle_one(consumer, &again.receipt, Verdict::reject("not for me")).await?;
    ensure_eq!(died, Settled::Died, "a verdict after the fault");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-DLQ-06",
    "a dead letter that cannot be written is told, and its message stays until it can",
    ["S-DLQ-2", "S-DEL-1", "S-FLT-1"],
    Safety,
    [Fault(Kill9)],
    a_death_that_fails
)];
