//! The `polyqueue` command: publish, consume, work and look after queues on whatever broker the environment names.

mod args;
mod bind;
mod broker;
mod consume;
mod dead;
mod demo;
mod exit;
mod ndjson;
mod publish;
mod purge;
mod request;
mod show;
mod stats;
mod stop;
mod topology;
mod work;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use exit::Result;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    match run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(&broker::address(cli.url.as_deref())),
    }
}

async fn run(cli: &Cli) -> Result<()> {
    let queue = broker::open(cli.url.as_deref()).await?;
    let done = match &cli.command {
        Command::Demo => demo::run(&queue).await,
        Command::Publish(args) => publish::run(&*queue, args).await,
        Command::Request(args) => request::run(&queue, args).await,
        Command::Bind(args) => bind::bind(&*queue, args, cli.output).await,
        Command::Unbind(args) => bind::unbind(&*queue, args, cli.output).await,
        Command::Topology { command } => topology::run(&*queue, command.as_ref(), cli.output).await,
        Command::Consume(args) => consume::run(&*queue, args).await,
        Command::Work(args) => work::run(&queue, args).await,
        Command::Stats { queue: name } => stats::run(&*queue, name.as_ref(), cli.output).await,
        Command::Dead(command) => dead::run(&*queue, command, cli.output).await,
        Command::Purge { queue: name, yes } => purge::run(&*queue, name, *yes, cli.output).await,
    };
    let closed = queue.close().await;
    done.and(closed.map_err(Into::into))
}

/// Errors, or what RUST_LOG asks for. The AMQP client calls every question whether an object exists an error.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error,lapin=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
