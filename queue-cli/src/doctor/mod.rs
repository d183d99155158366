//! `polyqueue doctor`: what of the broker is as it must be.

mod clock;
mod eviction;
mod finding;
mod persistence;
mod reach;
mod version;

use polyqueue::backend::redacted;
use polyqueue::{ConnectOptions, Error};

use crate::args::Output;
use crate::exit::{Exit, Result};
use crate::{broker, escape, show, stdout};
use finding::{Finding, State};

pub(crate) async fn run(url: Option<&str>, output: Output) -> Result<()> {
    let findings = examine(broker::chosen(url)?).await?;
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
async fn examine(options: ConnectOptions) -> Result<Vec<Finding>> {
    let address = redacted(&options.url);
    let examined = match options.url.starts_with("redis") {
        true => polyqueue_redis::diagnose(&options).await.map(|server| {
            vec![
                reach::reached(&address),
                version::check(&server.version),
                persistence::check(&server.append_only, &server.append_fsync),
                eviction::check(&server.eviction_policy),
                clock::check(&server.clock_ahead),
            ]
        }),
        false => broker::reach(options).await.map(|()| vec![reach::reached(&address)]),
    };
    match examined {
        Err(error @ Error::Invalid { .. }) => Err(error.into()),
        Err(error) => Ok(vec![reach::failed(&error)]),
        Ok(findings) => Ok(findings),
    }
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
