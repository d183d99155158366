//! A third party's suite: his broker is whatever a command starts, and he adds a case of his own.
//!
//! `cargo run -p polyqueue-conformance --example third-party -- C-MINE C-SET-05`. His broker is played by `redis-server` here.

#[path = "../tests/support/redis.rs"]
mod support;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Message, Queue, Settled, Verdict};
use polyqueue_conformance::broker::ProcessFaults;
use polyqueue_conformance::{
    Bytes, Case, ConnectOptions, Env, Fault, FaultKind, Garbage, Harness, Namespace, Outcome, QueueName,
    Result, Stage, async_trait, case, ensure_eq, run_with,
};
use support::Redis;

/// The command brings kill -9, stop, pause and restart, the proxy every fault of the network; a closure brings what the broker
/// can suffer itself. What is left out is printed as not applicable, by name.
fn my_broker() -> ProcessFaults {
    ProcessFaults::new("redis-server --port {port} --dir {dir} --appendonly yes --appendfsync always")
        .url("redis://127.0.0.1:{port}/")
        .own(FaultKind::OutOfMemory, |address, _| command(address, "CONFIG SET maxmemory 1"))
        .own(FaultKind::Wipe, |address, _| command(address, "FLUSHALL SYNC"))
        .undo(|address| command(address, "CONFIG SET maxmemory 0"))
}

async fn command(address: SocketAddr, command: &'static str) -> Outcome {
    let client = redis::Client::open(format!("redis://{address}/")).map_err(|error| error.to_string())?;
    let mut connection =
        client.get_multiplexed_async_connection().await.map_err(|error| error.to_string())?;
    let mut words = redis::Cmd::new();
    words.arg(command.split(' ').collect::<Vec<_>>());
    words.query_async::<()>(&mut connection).await.map_err(|error| error.to_string())?;
    Ok(())
}

/// `Redis` stands for what he has written to look at his broker.
struct Mine(Redis);

#[async_trait]
impl Harness for Mine {
    fn name(&self) -> &'static str {
        "mine"
    }

    async fn open(&self, namespace: &Namespace, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        self.0.open(namespace, options).await
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// Faults, links and child processes follow from it.
    fn stage(&self) -> Option<&Stage> {
        self.0.stage()
    }

    async fn garbage(&self, namespace: &Namespace, queue: &QueueName, raw: Garbage) -> Result<()> {
        self.0.garbage(namespace, queue, raw).await
    }

    async fn foreign(&self, namespace: &Namespace, queue: &QueueName, payload: Bytes) -> Result<()> {
        self.0.foreign(namespace, queue, payload).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Result<Vec<String>> {
        self.0.leftovers(namespace).await
    }
}

/// A case of his own: recorded, judged and cleaned up as those of the suite.
async fn what_was_confirmed_survives_a_kill(env: Env) -> Outcome {
    let (queue, name) = env.declared("mine").await?;
    queue.publish(&(&name).into(), vec![Message::new("kept")]).await?;
    let faults = env.faults().await?;
    faults.apply(Fault::Kill9).await?;
    faults.heal().await?;
    let linked = env.link().await?;
    let consumer = linked.queue.subscribe(&env.subscription(&name)).await?;
    let came = consumer.receive(1, env.t(50.0)).await?;
    ensure_eq!(came.len(), 1, "messages after the kill");
    let settled = consumer.settle(&[(came[0].receipt.clone(), Verdict::Ack)]).await?.remove(0)?;
    ensure_eq!(settled, Settled::Applied, "the ack");
    Ok(())
}

const MY_CASES: &[Case] = &[
    case!(
        "C-MINE-01",
        "what was confirmed survives a kill, and comes over a link",
        ["S-DEL-1"],
        Safety,
        [Durable, Faults, Link],
        what_was_confirmed_survives_a_kill
    ),
    case!(
        "C-MINE-02",
        "an alarm, which this broker does not have",
        ["S-DEL-1"],
        Safety,
        [Fault(Alarm)],
        what_was_confirmed_survives_a_kill
    ),
];

fn main() -> ExitCode {
    let stage = Stage::new("mine", "MINE_URL", || Box::pin(my_broker().start()));
    run_with(Mine(Redis::on(stage)), &[MY_CASES])
}
