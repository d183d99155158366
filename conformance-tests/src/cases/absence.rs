//! FLT: nobody is there: when a client starts, and for a while when a hundred publish.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{ConnectOptions, Consumer, Message, Queue, QueueName, Verdict};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::arrival::{patience, timed};
use super::ledger::{WORKS_WITHIN, passing};
use crate::verbs::{eventually, publish_any};
use crate::{Case, Env, Outcome, case, ensure};

const HANDLES: usize = 4;
const PUBLISHERS: usize = 100;
const GONE: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(2);
/// Tries in a second of one handle, however many connections it has.
const TRIES: usize = 5;

/// Connecting succeeds and the connection dies at once, which must cost no less than a refused one.
async fn a_hundred_publishers_wait_for_nobody(env: Env) -> Outcome {
    let linked = env.link().await?;
    let name = env.queue_name("nobody");
    linked.queue.declare(&name.clone().into()).await?;
    let handles = try_join_all((0..HANDLES).map(|_| env.open_with(in_brief(&linked.url)))).await?;
    let ended = CancellationToken::new();
    let mut readers = JoinSet::new();
    for handle in &handles {
        let consumer = handle.subscribe(&env.subscription(&name)).await?;
        readers.spawn(read_until(env.clone(), consumer, ended.clone()));
    }
    linked.link.accept_and_close();
    linked.link.cut();
    let gone = Instant::now();
    let publishers =
        (0..PUBLISHERS).map(|nth| publish_while_gone(&env, &handles[nth % HANDLES], &name, gone));
    try_join_all(publishers).await?;
    let tries: Vec<Instant> = linked.link.attempts().into_iter().filter(|at| *at > gone).collect();
    // One more handle is idle.
    let (most, within) = (TRIES * (HANDLES + 1), busiest_second(&tries));
    ensure!(within <= most, "{} handles tried {within} connections within a second", HANDLES + 1);
    ensure!(!tries.is_empty(), "nobody tried to connect: nothing was tried");
    linked.link.heal();
    let healed = Instant::now();
    for handle in &handles {
        let publish = || async {
            let answer = publish_any(handle, &name, Message::new("back")).await?;
            Ok(answer.is_ok().then(Instant::now))
        };
        let done = eventually(&env, 2 * WORKS_WITHIN, "a publish after the broker is back", publish).await?;
        env.in_time_by("a publish after the broker is back", healed, done, WORKS_WITHIN)?;
    }
    ended.cancel();
    while let Some(reader) = readers.join_next().await {
        reader.map_err(|panic| panic.to_string())??;
    }
    Ok(())
}

/// A handle over this link whose calls do not take long.
fn in_brief(url: &str) -> impl FnOnce(ConnectOptions) -> ConnectOptions {
    let url = url.to_owned();
    move |mut options| {
        options.url = url;
        options.deadline(DEADLINE)
    }
}

async fn read_until(env: Env, consumer: Box<dyn Consumer>, ended: CancellationToken) -> Outcome {
    while !ended.is_cancelled() {
        let came = match consumer.receive(10, env.t(1.0)).await {
            Ok(came) => came,
            Err(error) => {
                passing(&error)?;
                sleep(env.t(0.1)).await;
                continue;
            }
        };
        let acks: Vec<_> = came.iter().map(|it| (it.receipt.clone(), Verdict::Ack)).collect();
        if let Err(error) = consumer.settle(&acks).await {
            passing(&error)?;
        }
    }
    Ok(())
}

/// Each publish has its error by its deadline.
async fn publish_while_gone(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName, gone: Instant) -> Outcome {
    while gone.elapsed() < GONE {
        let call = publish_any(queue, name, Message::new("into the void"));
        let (answer, span) = timed(timeout(DEADLINE + patience(env), call)).await;
        let Ok(answer) = answer else { return Err("a publish hangs".into()) };
        env.in_time_by("the end of a publish", span.inv + DEADLINE, span.ret, Duration::from_secs(1))?;
        match answer? {
            // It was on its way when the connection was cut.
            Ok(_) => {}
            Err(error) => passing(&error)?,
        }
        sleep(env.t(0.5)).await;
    }
    Ok(())
}

fn busiest_second(tries: &[Instant]) -> usize {
    let mut window = VecDeque::new();
    let mut most = 0;
    for at in tries {
        window.push_back(*at);
        while window.front().is_some_and(|first| *at - *first >= Duration::from_secs(1)) {
            window.pop_front();
        }
        most = most.max(window.len());
    }
    most
}

async fn nobody_is_there_at_the_start(env: Env) -> Outcome {
    let linked = env.link().await?;
    linked.link.refuse();
    let (opened, span) = timed(timeout(DEADLINE + patience(&env), open_at(&env, &linked.url))).await;
    let Ok(opened) = opened else { return Err("opening hangs".into()) };
    env.in_time_by("the end of opening", span.inv + DEADLINE, span.ret, Duration::from_secs(1))?;
    match opened {
        Ok(_) => return Err("a client was opened although nobody was there".into()),
        Err(error) => passing(&error)?,
    }
    linked.link.heal();
    let queue = open_at(&env, &linked.url).await?;
    let name = env.queue_name("there");
    queue.declare(&name.clone().into()).await?;
    if !env.virtual_time() {
        a_wrong_password_is_tried_once(&env, &linked).await?;
    }
    Ok(())
}

async fn a_wrong_password_is_tried_once(env: &Env, linked: &crate::LinkedQueue) -> Outcome {
    let (scheme, rest) = linked.url.split_once("://").ok_or("a URL without a scheme")?;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let before = linked.link.attempts().len();
    let (opened, span) = timed(open_at(env, &format!("{scheme}://stranger:wrong@{host}"))).await;
    let Err(error) = opened else { return Err("a stranger was let in".into()) };
    ensure!(!error.is_transient(), "a wrong password does not pass by itself: {error}");
    ensure!(!error.to_string().contains("wrong@"), "the error tells the password: {error}");
    env.in_time_by("the refusal of a wrong password", span.inv, span.ret, Duration::from_secs(1))?;
    let tries = linked.link.attempts().len() - before;
    ensure!(tries <= 10, "a wrong password was tried {tries} times");
    Ok(())
}

async fn open_at(env: &Env, url: &str) -> polyqueue::Result<Arc<dyn Queue>> {
    env.try_open_with(in_brief(url)).await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-FLT-04",
        "nobody is there when a client is opened: an error by the deadline; a wrong password: at once",
        ["S-FLT-2", "S-BPR-3"],
        Both,
        [Link],
        nobody_is_there_at_the_start
    ),
    case!(
        "C-FLT-12",
        "the broker is gone and a hundred publish: each has its error in time, and few connections are tried",
        ["S-FLT-1", "S-FLT-2", "S-BPR-3"],
        Both,
        [Link],
        a_hundred_publishers_wait_for_nobody
    ),
];
