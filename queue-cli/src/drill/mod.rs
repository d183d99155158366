//! `polyqueue drill`: random faults against producers and consumers, and a report of what became of each message.

mod memory;
#[cfg(test)]
mod planted;

use std::hash::{BuildHasher, RandomState};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{ConnectOptions, Provider};
use polyqueue_conformance::Fail;
use polyqueue_conformance::drill::{self, BrokerSite, Order, Report, Site, Watch};
use tokio::time::sleep;

use crate::args::{Backend, Drill, Only, Output};
use crate::exit::{Exit, Result};
use crate::progress::Progress;
use crate::{show, stdout, stop};

/// Where a client of a drill that is a process finds the broker: not on its command line, for it may hold a password.
const URL_VAR: &str = "POLYQUEUE_DRILL_URL";
/// The verb that such a process is started with.
const CLIENT: &str = "drill-client";
const LOOKS_EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn run(url: Option<&str>, args: &Drill, output: Output) -> Result<()> {
    match drilled(url, args).await {
        Ok(report) => {
            match output {
                Output::Table => stdout::line(&report)?,
                Output::Json => stdout::line(show::json(&report)?)?,
            }
            if report.passed() { Ok(()) } else { Err(Exit::Wrong) }
        }
        Err(exit) => {
            if let (Output::Json, Some(error)) = (output, exit.failure()) {
                stdout::line(serde_json::json!({ "error": error }))?;
            }
            Err(exit)
        }
    }
}

/// Does it; what is left to do is to print what came of it.
async fn drilled(url: Option<&str>, args: &Drill) -> Result<Report> {
    let site = site(url, args.backend).await?;
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one("seed") >> 32);
    let only = args.only.map(|only| match only {
        Only::Cuts => drill::Only::Cuts,
        Only::Kills => drill::Only::Kills,
    });
    let (producers, consumers) = (args.producers.into(), args.consumers.into());
    let order = Order { producers, consumers, only, ..Order::new(seed, args.lasts) };
    watched(site, order).await
}

/// Does it on a thread of its own, and passes the wish to stop on.
async fn watched(site: Arc<dyn Site>, order: Order) -> Result<Report> {
    let seed = order.seed;
    let (watch, stop, give_up) = (Arc::new(Watch::default()), stop::requested()?, stop::requested_twice()?);
    let watched = watch.clone();
    let mut drill = tokio::task::spawn_blocking(move || drill::run(site, &order, &watched));
    let told = watch.clone();
    tokio::spawn(async move {
        stop.await;
        told.stop();
    });
    let progress = Progress::new("delivered");
    let done = progress.during(async {
        tokio::pin!(give_up);
        let mut shown = 0;
        loop {
            tokio::select! {
                done = &mut drill => break Some(done),
                () = &mut give_up => break None,
                () = sleep(LOOKS_EVERY) => {
                    let [_, _, delivered] = watch.so_far();
                    progress.add(delivered - shown);
                    shown = delivered;
                }
            }
        }
    });
    let failed = |what: String| Exit::Failed(format!("the drill of seed {seed} could not be done: {what}"));
    match done.await {
        Some(Ok(done)) => done.map_err(|fail| failed(fail.what().to_owned())),
        Some(Err(panic)) => Err(failed(panic.to_string())),
        // A thread that cannot be told to end must not keep the process.
        None => std::process::exit(130),
    }
}

async fn site(url: Option<&str>, backend: Option<Backend>) -> Result<Arc<dyn Site>> {
    let Some(url) = url else { return private(backend.unwrap_or(Backend::Memory)).await };
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let (named, provider) = match scheme {
        Some("redis") => (Backend::Redis, polyqueue_redis::PROVIDER),
        Some("amqp") => (Backend::Rabbitmq, polyqueue_rabbitmq::PROVIDER),
        _ => {
            let what = "--url: a drill wants redis://HOST:PORT or amqp://USER:PASSWORD@HOST:PORT, or no URL for a private broker";
            return Err(Exit::Usage(what.into()));
        }
    };
    if backend.is_some_and(|backend| backend != named) {
        return Err(Exit::Usage(format!("--backend {backend:?} and --url name two brokers").to_lowercase()));
    }
    // A broker that is down is no broken promise, and says more when it is asked for alone.
    provider.connect(ConnectOptions::new(url)).await?.close().await?;
    Ok(Arc::new(BrokerSite::given(provider, url).with_processes(client_process)))
}

async fn private(backend: Backend) -> Result<Arc<dyn Site>> {
    let started = match backend {
        Backend::Memory => return Ok(Arc::new(memory::MemorySite::new())),
        Backend::Redis => BrokerSite::private_redis(polyqueue_redis::PROVIDER).await,
        Backend::Rabbitmq => BrokerSite::private_rabbitmq(polyqueue_rabbitmq::PROVIDER).await,
    };
    let site = started.map_err(|fail| Exit::Failed(fail.what().to_owned()))?;
    Ok(Arc::new(site.with_processes(client_process)))
}

fn client_process(url: &str) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CLIENT).env(URL_VAR, url);
    Ok(command)
}

/// What a client does that is a process.
pub(crate) async fn client() -> Result<()> {
    let url = std::env::var(URL_VAR).map_err(|_| Exit::Usage("only a drill starts its clients".into()))?;
    let provider: Provider = match url.starts_with("redis:") {
        true => polyqueue_redis::PROVIDER,
        false => polyqueue_rabbitmq::PROVIDER,
    };
    let failed = |fail: Fail| Exit::Failed(fail.what().to_owned());
    drill::work(Arc::new(BrokerSite::given(provider, url))).await.map_err(failed)
}
