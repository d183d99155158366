//! The `polyqueue` command: publish, consume, work and look after queues on whatever broker the environment names.

#![warn(clippy::print_stdout, reason = "it panics when nobody reads: see stdout")]

mod args;
mod bind;
mod broker;
mod consume;
mod dead;
mod demo;
mod doctor;
#[cfg(feature = "drill")]
mod drill;
mod escape;
mod events;
mod exit;
mod input;
mod ndjson;
mod progress;
mod publish;
mod purge;
mod request;
mod show;
mod stats;
mod stderr;
mod stdout;
mod stop;
mod topology;
mod transfer;
mod work;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use exit::{Exit, Result};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match logged(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(&broker::address(cli.url.as_deref())),
    }
}

async fn logged(cli: &Cli) -> Result<()> {
    log_to_stderr()?;
    run(cli).await
}

async fn run(cli: &Cli) -> Result<()> {
    let url = cli.url.as_deref();
    let queue = match &cli.command {
        // It opens no handle: what is wrong with the broker may be why there is none.
        Command::Doctor(args) => return doctor::run(url, args, cli.output).await,
        #[cfg(feature = "drill")]
        Command::Drill(args) => return drill::run(url, args, cli.output).await,
        #[cfg(feature = "drill")]
        Command::DrillClient => return drill::client().await,
        Command::Demo => broker::open_any(url).await?,
        _ => broker::open(url).await?,
    };
    let done = match &cli.command {
        Command::Doctor(_) => Ok(()), // It has ended above, as what follows.
        #[cfg(feature = "drill")]
        Command::Drill(_) | Command::DrillClient => Ok(()),
        Command::Demo => demo::run(&queue).await,
        Command::Publish(args) => publish::run(&*queue, args).await,
        Command::Request(args) => request::run(&queue, args).await,
        Command::Bind(args) => bind::bind(&*queue, args, cli.output).await,
        Command::Unbind(args) => bind::unbind(&*queue, args, cli.output).await,
        Command::Topology { command } => topology::run(&*queue, command.as_ref(), cli.output).await,
        Command::Consume(args) => consume::run(&*queue, args).await,
        Command::Move(args) => transfer::run(&*queue, args, cli.output).await,
        Command::Work(args) => work::run(&queue, args).await,
        Command::Stats { queue: name } => stats::run(&*queue, name.as_ref(), cli.output).await,
        Command::Events => events::run(&*queue, cli.output).await,
        Command::Dead(command) => dead::run(&*queue, command, cli.output).await,
        Command::Purge { queue: name, yes } => purge::run(&*queue, name, *yes, cli.output).await,
    };
    let closed = queue.close().await;
    done.and(closed.map_err(Into::into))
}

/// Errors and the warning that no broker is chosen, or what RUST_LOG asks for. The AMQP client calls every question whether an
/// object exists an error.
fn log_to_stderr() -> Result<()> {
    let default = "error,polyqueue::provider=warn,lapin=off";
    let directives = match std::env::var_os("RUST_LOG").filter(|given| !given.is_empty()) {
        None => default.to_owned(),
        Some(given) => given
            .into_string()
            .map_err(|given| Exit::Usage(format!("invalid RUST_LOG: {given:?} given, which is not UTF-8")))?,
    };
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| Exit::Usage(format!("invalid RUST_LOG: {directives:?} given: {error}")))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}
