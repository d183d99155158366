//! GRP: a group is a queue that is bound; each group gets all, each member some.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use polyqueue::{Consumer, MessageId, Queue, QueueName, Settled, Verdict};
use tokio::time::Instant;

use super::arrival::patience;
use super::crowd::{ack_all, in_tasks};
use super::hand::{
    Counts, PATIENCE, brief, counts, expiring, hold, ids, numbered, once_each, settle_all, steady,
};
use super::route::{came_to, declare_bound, key};
use crate::verbs::publish_all;
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

const MESSAGES: usize = 300;
/// More attempts than a message that is left behind each time can have.
const MANY: NonZeroU32 = NonZeroU32::new(100).unwrap();

async fn each_group_gets_all_and_each_member_some(env: Env) -> Outcome {
    let queue = env.open().await?;
    let groups = [
        declare_bound(&env, &queue, "billing", &["order.#"]).await?,
        declare_bound(&env, &queue, "mailing", &["order.#"]).await?,
    ];
    let sent: BTreeSet<MessageId> =
        publish_all(&queue, key("order.paid")?, numbered(MESSAGES)).await?.into_iter().collect();
    for group in &groups {
        let done = Arc::new(AtomicUsize::new(0));
        let members = join(&env, group, 3).await?;
        // Each has one in hand before anybody goes on: nobody is left with nothing.
        let mut first = Vec::new();
        for member in &members {
            first.extend(hold(&**member, 1).await?);
        }
        let shares = members.into_iter().zip(first).map(|(member, first)| {
            let (env, done) = (env.clone(), done.clone());
            async move {
                ack_all(&*member, std::slice::from_ref(&first)).await?;
                done.fetch_add(1, SeqCst);
                let mut all = share(&env, &*member, &done).await?;
                all.push(first.message.id().clone());
                Ok(all)
            }
        });
        let shares = in_tasks(shares.collect::<Vec<_>>()).await?;
        ensure!(shares.iter().all(|share| !share.is_empty()), "a member of {group} got nothing");
        let came = once_each(shares.concat())?;
        ensure!(came == sent, "{group} got {} of {MESSAGES}", came.len());
        env.drained(group);
    }
    Ok(())
}

/// Members of a group, each a client of its own.
async fn join(env: &Env, group: &QueueName, n: usize) -> Result<Vec<Box<dyn Consumer>>, Fail> {
    let mut members = Vec::with_capacity(n);
    for _ in 0..n {
        let queue: Arc<dyn Queue> = env.open().await?;
        members.push(queue.subscribe(&steady(env, group)).await?);
    }
    Ok(members)
}

/// Acks what comes until the group has all.
async fn share(env: &Env, member: &dyn Consumer, done: &AtomicUsize) -> Result<Vec<MessageId>, Fail> {
    let (mut mine, start) = (Vec::new(), Instant::now());
    while done.load(SeqCst) < MESSAGES {
        ensure!(start.elapsed() < 2 * patience(env), "{} of {MESSAGES} came", done.load(SeqCst));
        let came = member.receive(5, env.t(1.0)).await?;
        ack_all(member, &came).await?;
        done.fetch_add(came.len(), SeqCst);
        mine.extend(ids(&came));
    }
    Ok(mine)
}

async fn a_group_that_sleeps_misses_nothing(env: Env) -> Outcome {
    let queue = env.open().await?;
    let awake = declare_bound(&env, &queue, "awake", &["tick.*"]).await?;
    let asleep = declare_bound(&env, &queue, "asleep", &["tick.*"]).await?;
    let reader = queue.subscribe(&steady(&env, &awake)).await?;
    let mut sent = Vec::new();
    for _ in 0..MESSAGES / 10 {
        let batch = publish_all(&queue, key("tick.tock")?, numbered(10)).await?;
        let came = hold(&*reader, 10).await?;
        ensure_eq!(ids(&came), batch, "what came to the group that reads");
        ack_all(&*reader, &came).await?;
        sent.extend(batch);
    }
    let waiting = Counts { ready: MESSAGES as u64, ..Counts::default() };
    counts(&queue.stats(&asleep).await?, waiting, "the group that sleeps")?;
    counts(&queue.stats(&awake).await?, Counts::default(), "the group that reads")?;
    let late = env.open().await?;
    let came = came_to(&env, &late, &asleep).await?;
    ensure!(came == sent.into_iter().collect(), "{} of {MESSAGES} came to it when it woke", came.len());
    env.drained(&asleep);
    Ok(())
}

/// Members come, take twenty, settle some of them and go, one way or another; what they leave behind comes to the others.
async fn members_come_and_go(env: Env) -> Outcome {
    const TAKEN: usize = 20;
    let (queue, mut rng) = (env.open().await?, env.rng());
    let group = declare_bound(&env, &queue, "passing", &["#"]).await?;
    let sent: BTreeSet<MessageId> =
        publish_all(&queue, key("x")?, numbered(10 * TAKEN)).await?.into_iter().collect();
    let (mut acked, mut left) = (Vec::new(), BTreeSet::new());
    let mut last = Instant::now();
    for _ in 0..8 {
        let client = env.open().await?;
        let member = client.subscribe(&expiring(&env, &group).max_attempts(MANY)).await?;
        let leased = hold(&*member, TAKEN).await?;
        last = Instant::now();
        let (keep, forget): (Vec<_>, Vec<_>) = leased.into_iter().partition(|_| rng.chance(0.75));
        settle_all(&*member, &keep, |_| Verdict::Ack, Settled::Applied).await?;
        acked.extend(ids(&keep));
        left.extend(ids(&forget));
        match rng.below(3) {
            0 => drop(member),
            1 => client.close().await?,
            _ => member.close().await?,
        }
    }
    let member = queue.subscribe(&steady(&env, &group).max_attempts(MANY)).await?;
    while acked.len() < sent.len() {
        let came = member.receive(10, PATIENCE).await?;
        let waited = last.elapsed() > brief(&env) + PATIENCE;
        ensure!(!came.is_empty() || !waited, "{} of {} came, then nothing", acked.len(), sent.len());
        for delivery in &came {
            let expected = 1 + u32::from(left.contains(delivery.message.id()));
            ensure!(delivery.attempt >= expected, "attempt {} of what was left behind", delivery.attempt);
        }
        ack_all(&*member, &came).await?;
        acked.extend(ids(&came));
    }
    ensure!(once_each(acked)? == sent, "others were acked than were sent");
    env.drained(&group);
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-GRP-01",
        "two groups of three: each group gets all, no two members the same",
        ["S-GRP-1", "S-DEL-3"],
        Safety,
        [],
        each_group_gets_all_and_each_member_some
    ),
    case!(
        "C-GRP-02",
        "a group that sleeps through everything finds all of it when it wakes",
        ["S-GRP-1", "S-TOP-5"],
        Safety,
        [],
        a_group_that_sleeps_misses_nothing
    ),
    case!(
        "C-GRP-03",
        "members come and go with messages in hand: each message is acked once",
        ["S-GRP-1", "S-LSE-2", "S-LIF-3"],
        Safety,
        [],
        members_come_and_go
    ),
];
