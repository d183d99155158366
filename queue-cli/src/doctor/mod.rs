//! `polyqueue doctor`: what of the broker is as it must be.

mod alarms;
mod clock;
mod consumer_timeout;
mod delays;
mod eviction;
mod finding;
mod http;
mod management;
mod persistence;
mod policies;
mod reach;
mod remains;
mod undeliverable;
mod version;

use polyqueue::backend::redacted;
use polyqueue::{ConnectOptions, Error};

use crate::args::{Doctor, Output};
use crate::exit::{Exit, Result};
use crate::{broker, escape, show, stdout};
use finding::{Finding, State};

pub(crate) async fn run(url: Option<&str>, args: &Doctor, output: Output) -> Result<()> {
    let findings = examine(broker::chosen(url)?, args).await?;
    match output {
        Output::Json => stdout::line(show::json(&findings)?)?,
        Output::Table => stdout::line(table(&findings))?,
    }
    match findings.iter().any(|finding| finding.state == State::Wrong) {
        true => Err(Exit::Wrong),
        false => Ok(()),
    }
}

/// A broker that cannot be reached is a finding; an address that makes no sense is not.
async fn examine(options: ConnectOptions, args: &Doctor) -> Result<Vec<Finding>> {
    let examined = match options.url.split("://").next() {
        Some("redis" | "rediss" | "redis+unix") => redis(&options).await,
        Some("amqp" | "amqps") => rabbitmq(&options, args).await,
        _ => {
            let address = redacted(&options.url);
            broker::reach(options).await.map(|()| vec![reach::reached(&address)])
        }
    };
    match examined {
        Err(error @ Error::Invalid { .. }) => Err(error.into()),
        Err(error) => Ok(vec![reach::failed(&error)]),
        Ok(findings) => Ok(findings),
    }
}

async fn redis(options: &ConnectOptions) -> polyqueue::Result<Vec<Finding>> {
    let server = polyqueue_redis::diagnose(options).await?;
    Ok(vec![
        reach::reached(&redacted(&options.url)),
        version::redis(&server.version),
        persistence::check(&server.append_only, &server.append_fsync),
        eviction::check(&server.eviction_policy),
        clock::check(&server.clock_ahead),
        undeliverable::unreadable(&server.unreadable),
    ])
}

async fn rabbitmq(options: &ConnectOptions, args: &Doctor) -> polyqueue::Result<Vec<Finding>> {
    let broker = polyqueue_rabbitmq::diagnose(options).await?;
    let held = held(options, args).await;
    let mut findings = vec![
        reach::reached(&redacted(&options.url)),
        version::rabbitmq(&broker.version),
        undeliverable::lost(&broker.undeliverable),
        delays::check(&broker.delays),
        remains::check(&broker.remains),
    ];
    match &args.management {
        None => findings.extend(["alarms", "policies"].map(Finding::not_asked)),
        Some(url) => {
            let managed = management::ask(url, &broker.virtual_host).await?;
            let namespace = &options.namespace;
            findings.push(alarms::check(&managed.alarms));
            findings.push(policies::check(&managed.queues, &managed.exchanges, namespace));
            findings.extend(
                held.is_none().then(|| consumer_timeout::check(&managed.queues, namespace, args.lease)),
            );
        }
    }
    let not_held = || args.management.is_none().then(consumer_timeout::not_tried);
    findings.extend(held.or_else(not_held));
    Ok(findings)
}

/// What holding a message shows, where that was asked for.
async fn held(options: &ConnectOptions, args: &Doctor) -> Option<Finding> {
    if !args.hold {
        return None;
    }
    Some(consumer_timeout::held(&polyqueue_rabbitmq::hold_limit(options, args.lease).await, args.lease))
}

fn table(findings: &[Finding]) -> comfy_table::Table {
    let mut table = show::table(["check", "", "found", "next"]);
    for finding in findings {
        let state = match finding.state {
            State::Good => "good",
            State::Wrong => "WRONG",
            State::Unknown => "?",
        };
        let found = escape::line(&finding.found).into_owned();
        table.add_row([finding.check, state, &found, finding.next.unwrap_or("-")]);
    }
    table
}
