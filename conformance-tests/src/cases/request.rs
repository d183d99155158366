//! RPC: a request is answered to its asker, or not at all, and the asker knows in time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{
    Consumer, Delivery, Destination, Error, Failure, Job, Message, Payload, Queue, QueueName, Requester,
    Worker, with,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::arrival::{ack, patience, timed};
use super::crew::Running;
use super::hand::{PATIENCE, steady};
use super::interrupt::Victim;
use super::route::{declare_bound, key};
use super::worker::soon;
use crate::verbs::{eventually, publish_any, receive_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

#[derive(Serialize, Deserialize)]
struct Double(u64);
impl Payload for Double {
    const KIND: &'static str = "double";
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Doubled(u64);
impl Payload for Doubled {
    const KIND: &'static str = "doubled";
}

/// Doubles, each request after a while of its own.
async fn double(unit: Duration, job: Job<Double>) -> Result<Doubled, Failure> {
    sleep(unit * (job.payload.0 * 37 % 20) as u32).await;
    Ok(Doubled(2 * job.payload.0))
}

/// A worker that doubles, `concurrency` requests at a time.
fn doubling(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName, concurrency: usize) -> Running {
    let worker = Worker::new(queue.clone()).concurrency(concurrency).on_request(with(env.t(0.01), double));
    Running::start(worker, std::slice::from_ref(name))
}

async fn each_gets_its_own_answer(env: Env) -> Outcome {
    let (queue, name) = env.declared("brain").await?;
    let asker = env.open().await?;
    let running = doubling(&env, &queue, &name, 50);
    let requesters = [Requester::open(asker.clone()).await?, Requester::open(asker.clone()).await?];
    let requests = (0..200).map(|n| {
        let requester = &requesters[n as usize % 2];
        let (to, patience) = (name.clone(), patience(&env));
        async move { Ok::<_, Error>((n, requester.request::<_, Doubled>(to, &Double(n), patience).await?)) }
    });
    for (n, answer) in try_join_all(requests).await? {
        ensure_eq!(answer, Doubled(2 * n), "the answer to {n}");
    }
    ensure_eq!(requesters[0].late_replies() + requesters[1].late_replies(), 0, "late replies");
    ensure_eq!(running.stop().await?.acked, 200, "requests that were handled");
    Ok(())
}

/// The next request, in hand.
async fn next_request(consumer: &dyn Consumer) -> Result<Delivery, Fail> {
    let request = receive_one(consumer, PATIENCE).await?;
    ensure!(request.message.reply_to().is_some(), "a request without an address");
    ensure!(request.message.correlation_id().is_some(), "a request without a correlation id");
    Ok(request)
}

/// Answers by hand, under any correlation id.
async fn answer(
    queue: &Arc<dyn Queue>,
    request: &Delivery,
    id: &str,
    n: u64,
) -> Result<polyqueue::Result<polyqueue::Published>, Fail> {
    let to = request.message.reply_to().map(Destination::from).ok_or("no address")?;
    publish_any(queue, to, Message::of(&Doubled(n))?.with_correlation_id(id)).await
}

async fn a_late_answer_is_dropped_and_counted(env: Env) -> Outcome {
    let (queue, name) = env.declared("slow").await?;
    let asker = env.open().await?;
    let requester = Requester::open(asker).await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let timeout = env.t(3.0).max(env.hiccups(6));
    let silent = timed(requester.request::<_, Doubled>(name.clone(), &Double(1), timeout));
    let ((answered, span), request) = tokio::join!(silent, next_request(&*consumer));
    let request = request?;
    ensure!(matches!(&answered, Err(Error::Timeout { .. })), "silence was answered {answered:?}");
    ensure!(span.took() >= timeout, "timed out after {:?}, not {timeout:?}", span.took());
    env.in_time("the timeout of a request", span.inv + timeout, span.ret)?;
    sleep(env.t(1.0)).await;
    let id = request.message.correlation_id().ok_or("no correlation id")?.to_owned();
    answer(&queue, &request, &id, 2).await??;
    counted(&env, &requester, 1).await?;
    ack(&*consumer, &request).await?;
    let asking = requester.request::<_, Doubled>(name.clone(), &Double(2), patience(&env));
    let answering = async {
        let request = next_request(&*consumer).await?;
        let id = request.message.correlation_id().ok_or("no correlation id")?.to_owned();
        answer(&queue, &request, "unknown", 66).await??;
        answer(&queue, &request, &id, 4).await??;
        answer(&queue, &request, &id, 44).await??;
        ack(&*consumer, &request).await
    };
    let (answered, done) = tokio::join!(asking, answering);
    done?;
    ensure_eq!(answered?, Doubled(4), "the answer to the next request");
    counted(&env, &requester, 3).await
}

/// So many replies came that nobody waited for.
async fn counted(env: &Env, requester: &Requester, expected: u64) -> Outcome {
    let all = || async { Ok((requester.late_replies() >= expected).then_some(())) };
    eventually(env, PATIENCE, "the late reply counted", all).await?;
    ensure_eq!(requester.late_replies(), expected, "late replies");
    Ok(())
}

/// Fails each time, at once for good, or in a way that nobody can answer.
async fn fails(job: Job<Double>) -> Result<Doubled, Failure> {
    match job.payload.0 {
        0 => Err(Failure::fatal("never")),
        n => Err(format!("not {n}, attempt {}", job.attempt).into()),
    }
}

async fn a_responder_that_fails_is_an_error_at_the_asker(env: Env) -> Outcome {
    let (queue, name) = env.declared("failing").await?;
    let worker = Worker::new(queue.clone()).retry(soon(&env, 3)?).on_request(fails);
    let running = Running::start(worker, std::slice::from_ref(&name));
    let requester = Requester::open(env.open().await?).await?;
    for (n, expected) in [(0, "never"), (7, "not 7, attempt 3")] {
        let answered = requester.request::<_, Doubled>(name.clone(), &Double(n), patience(&env)).await;
        match answered {
            Err(Error::Remote(text)) => ensure!(text.contains(expected), "the error is {text:?}"),
            other => return Err(format!("a request that dies was answered {other:?}").into()),
        }
    }
    let unreadable = Message::new("no number").with_kind(Double::KIND);
    let answered = requester.ask(name.clone(), unreadable, patience(&env)).await;
    ensure!(matches!(&answered, Err(Error::Remote(_))), "an unreadable request was answered {answered:?}");
    let missing = env.queue_name("missing");
    let answered = requester.request::<_, Doubled>(missing, &Double(1), patience(&env)).await;
    ensure!(matches!(&answered, Err(Error::NotFound(_))), "a request to nowhere was answered {answered:?}");
    ensure_eq!(running.stop().await?.died, 3, "requests that died");
    ensure_eq!(queue.stats(&name).await?.dead, 3, "their records");
    Ok(())
}

/// That nothing is left is what the runner looks at after every case; here a thousand times something could be.
async fn a_thousand_requests_leave_nothing(env: Env) -> Outcome {
    let (queue, name) = env.declared("busy").await?;
    let running = doubling(&env, &queue, &name, 50);
    for round in 0..10 {
        let client = env.open().await?;
        let requester = Requester::open(client.clone()).await?;
        let (asker, patience) = (&requester, patience(&env));
        let requests = (0..100).map(|n| {
            let to = name.clone();
            async move { asker.request::<_, Doubled>(to, &Double(n), patience).await }
        });
        let answers = try_join_all(requests).await?;
        ensure!(answers.iter().zip(0..).all(|(it, n)| *it == Doubled(2 * n)), "wrong answers");
        if round % 2 == 0 {
            drop(requester);
        }
        client.close().await?;
    }
    ensure_eq!(running.stop().await?.acked, 1000, "requests that were handled");
    Ok(())
}

async fn answers_of_many_are_gathered(env: Env) -> Outcome {
    let queue = env.open().await?;
    let mut groups = Vec::new();
    for (name, factor) in [("twice", 2), ("thrice", 3)] {
        let name = declare_bound(&env, &queue, name, &["all.*"]).await?;
        let worker = Worker::new(queue.clone())
            .on_request(with(factor, async |n, job: Job<Double>| Ok(Doubled(n * job.payload.0))));
        groups.push(Running::start(worker, std::slice::from_ref(&name)));
    }
    let name = declare_bound(&env, &queue, "never", &["all.*"]).await?;
    let worker = Worker::new(queue.clone()).retry(soon(&env, 1)?).on_request(fails);
    groups.push(Running::start(worker, std::slice::from_ref(&name)));
    let requester = Requester::open(env.open().await?).await?;
    let topic = key("all.now")?;
    let (all, span) =
        timed(requester.gather::<_, Doubled>(topic.clone(), &Double(10), 3, patience(&env))).await;
    let all = all?;
    ensure!(span.took() < patience(&env), "three answers were waited for to the end");
    let mut good: Vec<u64> = all.iter().filter_map(|it| Some(it.as_ref().ok()?.0)).collect();
    good.sort_unstable();
    ensure_eq!((good, all.len()), (vec![20, 30], 3), "what two say, and how many answered");
    let remote = all.iter().any(|it| matches!(it, Err(Error::Remote(text)) if text.contains("not 10")));
    ensure!(remote, "the third failed and said {all:?}");
    let timeout = env.t(5.0).max(env.hiccups(10));
    let (some, span) = timed(requester.gather::<_, Doubled>(topic, &Double(1), 9, timeout)).await;
    ensure_eq!(some?.len(), 3, "answers where nine were asked for");
    ensure!(span.took() >= timeout, "nine answers were not waited for: {:?}", span.took());
    for group in groups {
        group.stop().await?;
    }
    Ok(())
}

/// One side's connections are cut while a request is in the responder's hands.
async fn a_cut_is_an_error_or_an_answer(env: Env) -> Outcome {
    for asker_is_cut in [true, false] {
        let (direct, name) = env.declared(if asker_is_cut { "asker" } else { "responder" }).await?;
        let linked = env.link().await?;
        let (asking, answering) = match asker_is_cut {
            true => (linked.queue.clone(), direct.clone()),
            false => (direct.clone(), linked.queue.clone()),
        };
        let requester = Requester::open(asking).await?;
        let worker = doubling(&env, &answering, &name, 1);
        let timeout = env.t(10.0).max(env.hiccups(10));
        // The unit of `double` is such that 1 takes 17 of it: the cut comes before the answer, or just beside it.
        let (answered, span) = timed(async {
            let asked = requester.request::<_, Doubled>(name.clone(), &Double(1), timeout);
            let cut = async {
                sleep(env.t(0.1)).await;
                linked.link.cut();
            };
            tokio::join!(asked, cut).0
        })
        .await;
        env.in_time("the end of a request across a cut", span.inv + timeout, span.ret)?;
        match answered {
            Ok(answer) => ensure_eq!(answer, Doubled(2), "the answer across a cut"),
            Err(error) => ensure!(error.is_transient(), "a cut was answered {error:?}"),
        }
        usable(&env, &requester, &name).await?;
        worker.stop().await?;
    }
    Ok(())
}

/// Requests are answered again, after some time at most.
async fn usable(env: &Env, requester: &Requester, name: &QueueName) -> Outcome {
    let end = Instant::now() + 2 * patience(env);
    loop {
        let timeout = env.t(5.0).max(env.hiccups(10));
        match requester.request::<_, Doubled>(name.clone(), &Double(4), timeout).await {
            Ok(answer) => {
                ensure_eq!(answer, Doubled(8), "the answer after a cut");
                return Ok(());
            }
            Err(error) => ensure!(error.is_transient(), "after a cut a request was answered {error:?}"),
        }
        ensure!(Instant::now() < end, "no request was answered after the cut");
        sleep_until(Instant::now() + env.t(0.5)).await;
    }
}

/// A requester whose handle is closed says so, also to those who wait.
async fn a_closed_handle_ends_requests(env: Env) -> Outcome {
    let (_queue, name) = env.declared("closing").await?;
    let victim = Victim::open(&env).await?;
    let requester = Requester::open(victim.queue.clone()).await?;
    let asked = requester.request::<_, Doubled>(name.clone(), &Double(1), patience(&env));
    let closing = async {
        sleep(env.t(1.0)).await;
        victim.queue.close().await
    };
    let ((answered, span), closed) = tokio::join!(timed(asked), closing);
    closed?;
    ensure!(
        matches!(&answered, Err(Error::Closed)),
        "a request at a closed handle was answered {answered:?}"
    );
    ensure!(span.took() < patience(&env), "it was told after {:?}", span.took());
    let again = requester.request::<_, Doubled>(name, &Double(1), patience(&env)).await;
    ensure!(matches!(&again, Err(Error::Closed)), "another was answered {again:?}");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-RPC-01",
        "of two hundred requests at once each gets its own answer",
        ["S-RPC-1"],
        Safety,
        [],
        each_gets_its_own_answer
    ),
    case!(
        "C-RPC-02",
        "silence is a timeout in time; late, double and unknown answers are dropped and counted",
        ["S-RPC-1", "S-RPC-2"],
        Both,
        [],
        a_late_answer_is_dropped_and_counted
    ),
    case!(
        "C-RPC-03",
        "a request that dies at its responder is an error at its asker, at once",
        ["S-RPC-4", "S-DLQ-2"],
        Safety,
        [],
        a_responder_that_fails_is_an_error_at_the_asker
    ),
    case!(
        "C-RPC-04",
        "a thousand requests leave nothing behind",
        ["S-RPC-3", "S-RPC-1"],
        Safety,
        [],
        a_thousand_requests_leave_nothing
    ),
    case!(
        "C-RPC-05",
        "a cut between request and answer is an error or an answer in time; both sides work on",
        ["S-RPC-4"],
        Both,
        [Link],
        a_cut_is_an_error_or_an_answer
    ),
    case!(
        "C-RPC-06",
        "the answers of all groups of a topic are gathered, errors among them, or those that came in time",
        ["S-RPC-1", "S-GRP-1"],
        Safety,
        [],
        answers_of_many_are_gathered
    ),
    case!(
        "C-RPC-07",
        "closing the handle ends the requests that wait",
        ["S-RPC-4", "S-LIF-1"],
        Both,
        [],
        a_closed_handle_ends_requests
    ),
];
