//! Dead letters: the record is complete, its reason is true, and a listing has no gaps.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Consumer, DeadBody, DeadFilter, DeadLetter, DeadReason, Delivery, Error, Message, MessageId, Overflow,
    Page, Queue, QueueName, QueueSpec, Refusal, Settled, Verdict,
};

use super::arrival::timed;
use super::hand::{
    PATIENCE, hold, level, lifetime, nothing_else_is_ready, number, numbered, outlived, settle_all, steady,
};
use crate::verbs::{dead_all, eventually, publish_all, publish_one, receive_none, receive_one, settle_one};
use crate::{Case, Env, Fail, Garbage, Outcome, case, ensure, ensure_eq};

async fn the_record_is_complete(env: Env) -> Outcome {
    let (queue, name) = env.declared("fated").await?;
    let consumer = queue.subscribe(&steady(&env, &name).consumer("ward 9")).await?;
    let sent = with_all_fields();
    publish_one(&queue, &name, sent.clone()).await?;
    let mut first = None;
    for (error, answer) in
        [("first α", Settled::Applied), ("second", Settled::Applied), ("third β", Settled::Died)]
    {
        let delivery = receive_one(&*consumer, PATIENCE).await?;
        let verdict = Verdict::retry(Duration::ZERO, error);
        ensure_eq!(settle_one(&*consumer, &delivery.receipt, verdict).await?, answer, "answer to {error:?}");
        first.get_or_insert(delivery);
    }
    let dead_letter = only_dead_letter(&queue, &name).await?;
    let published = first.and_then(|delivery| delivery.message.published_at());
    ensure!(published.is_some(), "the hand-out of {:?} did not say when it was published", dead_letter.id);
    ensure_eq!(dead_letter.first_published_at, published, "first published");
    ensure!(Some(dead_letter.died_at) >= published, "died at {}, before {published:?}", dead_letter.died_at);
    ensure_eq!(dead_letter.reason, DeadReason::MaxAttempts, "reason");
    ensure_eq!(dead_letter.error, "third β", "error");
    ensure_eq!(
        (dead_letter.attempts, dead_letter.total_attempts, dead_letter.redriven),
        (3, 3, 0),
        "attempts, in all, redriven"
    );
    ensure_eq!(
        (&dead_letter.queue, dead_letter.consumer.as_deref()),
        (&name, Some("ward 9")),
        "queue and consumer"
    );
    let Some(message) = dead_letter.message() else { return Err("the record holds no message".into()) };
    same_content(message, &sent)?;
    ensure_eq!(message.published_at(), published, "published_at in the record");
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

fn with_all_fields() -> Message {
    Message::new(&b"\x00\xff body"[..])
        .with_kind("mail.welcome")
        .with_schema_version("1.4.0")
        .with_priority(level(7))
        .with_correlation_id("order-42")
        .with_header("tenant", "ü")
        .with_header("empty", "")
}

/// Everything that the sender chose is as it was sent.
pub(super) fn same_content(seen: &Message, sent: &Message) -> Outcome {
    ensure_eq!(seen.id(), sent.id(), "id");
    ensure_eq!(seen.kind(), sent.kind(), "kind");
    ensure_eq!(seen.schema_version(), sent.schema_version(), "schema version");
    ensure!(
        seen.payload() == sent.payload(),
        "another payload: {} bytes, {} sent",
        seen.payload().len(),
        sent.payload().len()
    );
    ensure_eq!(seen.priority(), sent.priority(), "priority");
    ensure_eq!(seen.correlation_id(), sent.correlation_id(), "correlation id");
    ensure_eq!(seen.max_attempts(), sent.max_attempts(), "max attempts");
    ensure_eq!(seen.headers(), sent.headers(), "headers");
    Ok(())
}

pub(super) async fn only_dead_letter(queue: &Arc<dyn Queue>, name: &QueueName) -> Result<DeadLetter, Fail> {
    let mut dead_letters = dead_all(queue, name).await?;
    ensure_eq!(dead_letters.len(), 1, "dead letters");
    Ok(dead_letters.remove(0))
}

async fn the_reason_is_true(env: Env) -> Outcome {
    let (queue, name) = env.declared("refused").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    for (priority, reason, error) in
        [(9, Refusal::Rejected, "not wanted"), (2, Refusal::Undecodable, "not JSON")]
    {
        publish_one(&queue, &name, Message::new(error).with_priority(level(priority))).await?;
        let delivery = receive_one(&*consumer, PATIENCE).await?;
        let verdict = Verdict::DeadLetter { reason, error: error.into() };
        ensure_eq!(
            settle_one(&*consumer, &delivery.receipt, verdict).await?,
            Settled::Died,
            "answer to {error:?}"
        );
    }
    env.garbage(&name, Garbage::FutureVersion { body: "v99".into() }).await?;
    nothing_else_is_ready(&queue, &name, &*consumer).await?;
    let dead_letters = eventually(&env, PATIENCE, "three dead letters", async || {
        // Whoever finds the garbage dead-letters it, and nobody is looking unless we do.
        receive_none(&*consumer, Duration::ZERO).await?;
        let dead_letters = dead_all(&queue, &name).await?;
        Ok((dead_letters.len() == 3).then_some(dead_letters))
    })
    .await?;
    for (dead_letter, (reason, error, priority)) in dead_letters
        .iter()
        .zip([(DeadReason::Rejected, "not wanted", 9), (DeadReason::Undecodable, "not JSON", 2)])
    {
        ensure_eq!(
            (dead_letter.reason, dead_letter.error.as_str(), dead_letter.attempts),
            (reason, error, 1),
            "record"
        );
        ensure_eq!(
            dead_letter.message().map(|m| m.priority()),
            Some(level(priority)),
            "priority of {error:?}"
        );
    }
    ensure_eq!(dead_letters[2].reason, DeadReason::Undecodable, "reason of the garbage");
    ensure_eq!(dead_letters[2].body, DeadBody::Raw("v99".into()), "body of the garbage");
    by_time_and_by_number(&env, &queue).await
}

/// The reasons that no reader gives: its time was over, and it made room for others, where that is supported.
async fn by_time_and_by_number(env: &Env, queue: &Arc<dyn Queue>) -> Outcome {
    let spec = QueueSpec::new(env.queue_name("roomy")).bound(1, Overflow::DropOldest);
    let makes_room = match queue.declare(&spec).await {
        Err(Error::Unsupported { .. }) => false,
        answer => answer.map(|()| true)?,
    };
    let plain = QueueSpec::new(env.queue_name("mortal"));
    queue.declare(&plain).await?;
    let ttl = lifetime(env);
    let mortal = Message::new("mortal").with_priority(level(3)).with_ttl(ttl);
    let (id, published) = timed(publish_one(queue, &plain.name, mortal)).await;
    id?;
    if makes_room {
        for (text, priority) in [("overflow", 2), ("stays", 8)] {
            publish_one(queue, &spec.name, Message::new(text).with_priority(level(priority))).await?;
        }
        let dead_letter = only_dead_letter(queue, &spec.name).await?;
        let seen = (dead_letter.reason, dead_letter.error.as_str(), dead_letter.attempts);
        ensure_eq!(seen, (DeadReason::Overflow, "dropped to make room", 0), "record of the overflow");
        ensure_eq!(dead_letter.message().map(Message::priority), Some(level(2)), "its priority");
    }
    env.by(outlived(published, ttl), "the death of a message that nobody reads", async || {
        only_dead_letter(queue, &plain.name).await.map(drop)
    })
    .await?;
    let dead_letter = only_dead_letter(queue, &plain.name).await?;
    let seen = (dead_letter.reason, dead_letter.error.as_str(), dead_letter.attempts);
    ensure_eq!(seen, (DeadReason::Expired, "expired", 0), "record of the expired");
    ensure_eq!(dead_letter.message().map(Message::priority), Some(level(3)), "its priority");
    Ok(())
}

async fn a_listing_has_no_gaps(env: Env) -> Outcome {
    let (queue, name) = env.declared("listed").await?;
    let sent = publish_all(&queue, &name, numbered(36)).await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let mut leased = hold(&*consumer, 36).await?;
    let late = leased.pop().into_iter().collect::<Vec<_>>();
    settle_all(&*consumer, &leased, |it| refusal(&it.message), Settled::Died).await?;
    let all = DeadFilter::all();
    let order = listed(&queue, &name, &all, None).await?;
    ensure_eq!(order, sent[..35], "a listing, oldest death first");
    let during = listed(&queue, &name, &all, Some((&*consumer, &late))).await?;
    ensure_eq!(during, sent[..35], "a listing during which one more dies");
    let pick =
        |rule: fn(usize) -> bool| (0..36).filter(|&i| rule(i)).map(|i| sent[i].clone()).collect::<Vec<_>>();
    for (filter, expected) in [
        (DeadFilter::default().reason(DeadReason::Undecodable), pick(|i| i.is_multiple_of(3))),
        (DeadFilter::default().error("no. 1"), pick(|i| i == 1 || (10..20).contains(&i))),
        (
            DeadFilter::default().reason(DeadReason::Rejected).error("no. 1"),
            pick(|i| !i.is_multiple_of(3) && (i == 1 || (10..20).contains(&i))),
        ),
        (DeadFilter::default().reason(DeadReason::MaxAttempts), vec![]),
    ] {
        ensure_eq!(listed(&queue, &name, &filter, None).await?, expected, "{filter:?}");
    }
    Ok(())
}

fn refusal(message: &Message) -> Verdict {
    let i = match number(message) {
        Ok(i) => i,
        Err(fail) => return Verdict::reject(fail.to_string()),
    };
    let reason = if i.is_multiple_of(3) { Refusal::Undecodable } else { Refusal::Rejected };
    Verdict::DeadLetter { reason, error: format!("no. {i}!") }
}

/// The ids of the dead letters that match, in pages of 10; `late` ones die after the second page.
async fn listed(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    filter: &DeadFilter,
    late: Option<(&dyn Consumer, &[Delivery])>,
) -> Result<Vec<MessageId>, Fail> {
    let (mut found, mut page, mut pages) = (Vec::new(), Page::first(10), 0);
    loop {
        let part = queue.dead_letters(name, filter, page).await?;
        ensure!(part.dead_letters.len() <= 10, "a page of {} dead letters", part.dead_letters.len());
        let dates = part.dead_letters.is_sorted_by_key(|dead_letter| dead_letter.died_at);
        ensure!(dates, "page {pages} is not in the order of deaths");
        found.extend(
            part.dead_letters.iter().filter_map(|dead_letter| Some(dead_letter.message()?.id().clone())),
        );
        pages += 1;
        if let (2, Some((consumer, late))) = (pages, late) {
            settle_all(consumer, late, |it| refusal(&it.message), Settled::Died).await?;
        }
        let Some(cursor) = part.next else { return Ok(found) };
        page = Page::after(cursor, 10);
    }
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-DLQ-01",
        "exhausted attempts leave a complete record with the last error",
        ["S-DLQ-1", "S-DLQ-2", "S-ATT-3", "S-DEL-5"],
        Safety,
        [],
        the_record_is_complete
    ),
    case!(
        "C-DLQ-02",
        "the record says truly why the message died",
        ["S-DLQ-1", "S-VAL-5", "S-PRI-4"],
        Safety,
        [],
        the_reason_is_true
    ),
    case!(
        "C-DLQ-07",
        "a listing by page and filter has each record once, and ends with what was there when it began",
        ["S-DLQ-1", "S-DLQ-2", "S-RDR-3"],
        Safety,
        [],
        a_listing_has_no_gaps
    ),
];
