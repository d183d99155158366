//! Redis at rest: what 100 waiting consumers and 100 requesters cost, and how soon a publish reaches a consumer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use polyqueue::{ConnectOptions, Destination, Message, Queue, QueueName, Requester, Subscription, Verdict};
use redis::Client;
use tokio::sync::mpsc;

use crate::measure::percentile;
use crate::{Outcome, ours};

const CONSUMERS: usize = 100;
const WATCH: Duration = Duration::from_secs(20);
const PUBLISHES: usize = 500;

pub(crate) async fn run() -> Outcome {
    let url = crate::redis::url()?;
    let queue = polyqueue_redis::PROVIDER.connect(ConnectOptions::new(&url).namespace("bench-idle")).await?;
    for consumers in [1, CONSUMERS] {
        let name = ours::declared(&queue).await?;
        let (received, mut arrivals) = mpsc::unbounded_channel();
        let waiting = wait_for_all(queue.clone(), name.clone(), consumers, received);
        let waiting = tokio::spawn(waiting);
        tokio::time::sleep(Duration::from_secs(1)).await;
        if consumers > 1 {
            count_commands(&url, consumers).await?;
        }
        let mut latencies = Vec::new();
        for _ in 0..PUBLISHES {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let began = Instant::now();
            for answer in queue.publish(&Destination::from(&name), vec![Message::new("wake up")]).await? {
                answer?;
            }
            let arrived: Instant = arrivals.recv().await.ok_or("the consumers ended")?;
            latencies.push(arrived.saturating_duration_since(began).as_secs_f64() * 1e3);
        }
        let (p50, p99) = (percentile(&latencies, 0.5), percentile(&latencies, 0.99));
        let verdict = if p50 < 2.0 { "reached" } else { "MISSED" };
        println!(
            "redis wake-up, {consumers:>3} waiting        p50 {p50:.2} ms   p99 {p99:.2} ms   (wanted p50 below 2 ms: {verdict})"
        );
        waiting.abort();
        queue.delete(&name).await?;
    }
    requesters(&url, &queue).await?;
    queue.close().await?;
    Ok(())
}

/// What requesters cost that ask nothing.
async fn requesters(url: &str, queue: &Arc<dyn Queue>) -> Outcome {
    let mut raw = Client::open(url)?.get_multiplexed_async_connection().await?;
    let opening = (0..CONSUMERS).map(|_| Requester::open(queue.clone()));
    let requesters = try_join_all(opening).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (commands, server, ours) = (all_commands(&mut raw).await?, server_cpu(&mut raw).await?, own_cpu()?);
    tokio::time::sleep(WATCH).await;
    let share = |seconds: f64| 100.0 * seconds / WATCH.as_secs_f64();
    let cpu = share(server_cpu(&mut raw).await? - server + own_cpu()? - ours);
    // The two questions in between are not theirs.
    let sent = all_commands(&mut raw).await?.saturating_sub(commands + 2);
    let each = sent as f64 / CONSUMERS as f64 / (WATCH.as_secs_f64() / 5.0);
    let verdict = if each <= 1.0 && cpu < 1.0 { "reached" } else { "MISSED" };
    println!(
        "redis idle, {CONSUMERS} requesters        {sent} commands in {WATCH:?}: {each:.2} a requester in 5 s, {cpu:.2} % of a core for server and client (wanted at most 1, below 1 %: {verdict})"
    );
    drop(requesters);
    Ok(())
}

async fn all_commands(raw: &mut redis::aio::MultiplexedConnection) -> Outcome<u64> {
    let info: String = redis::cmd("INFO").arg("stats").query_async(raw).await?;
    Ok(field(&info, "total_commands_processed:")? as u64)
}

/// Seconds that the server has computed.
async fn server_cpu(raw: &mut redis::aio::MultiplexedConnection) -> Outcome<f64> {
    let info: String = redis::cmd("INFO").arg("cpu").query_async(raw).await?;
    Ok(field(&info, "used_cpu_sys:")? + field(&info, "used_cpu_user:")?)
}

fn field(info: &str, name: &str) -> Outcome<f64> {
    let value = info.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.ok_or_else(|| format!("INFO has no {name}"))?.trim().parse()?)
}

/// Seconds that this process has computed; the kernel counts hundredths.
fn own_cpu() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

async fn wait_for_all(
    queue: Arc<dyn Queue>,
    name: QueueName,
    consumers: usize,
    received: mpsc::UnboundedSender<Instant>,
) -> Outcome {
    let waits = (0..consumers).map(|_| {
        let (queue, received) = (queue.clone(), received.clone());
        let subscription = Subscription::new(name.clone());
        async move {
            let consumer = queue.subscribe(&subscription).await?;
            loop {
                for delivery in consumer.receive(1, Duration::from_secs(60)).await? {
                    received.send(Instant::now())?;
                    consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await?;
                }
            }
            #[allow(unreachable_code)]
            Outcome::Ok(())
        }
    });
    try_join_all(waits).await?;
    Ok(())
}

/// Counts the commands that clients send, not those that scripts run.
async fn count_commands(url: &str, consumers: usize) -> Outcome {
    let mut raw = Client::open(url)?.get_multiplexed_async_connection().await?;
    let before = client_commands(&mut raw).await?;
    tokio::time::sleep(WATCH).await;
    let sent = client_commands(&mut raw).await? - before - 1;
    let each = sent as f64 / consumers as f64 / (WATCH.as_secs_f64() / 5.0);
    let verdict = if each <= 1.0 { "reached" } else { "MISSED" };
    println!(
        "redis idle, {consumers} consumers         {sent} commands in {WATCH:?}: {each:.2} a consumer in 5 s (wanted at most 1: {verdict})"
    );
    Ok(())
}

async fn client_commands(raw: &mut redis::aio::MultiplexedConnection) -> Outcome<u64> {
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(raw).await?;
    let sent_by_clients =
        ["cmdstat_evalsha:", "cmdstat_eval:", "cmdstat_ping:", "cmdstat_info:", "cmdstat_fcall:"];
    let calls = info
        .lines()
        .filter(|line| sent_by_clients.iter().any(|name| line.starts_with(name)))
        .filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok());
    Ok(calls.sum())
}
