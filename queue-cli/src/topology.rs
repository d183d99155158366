//! `polyqueue topology`: queues as they were declared, and where a routing key leads.

use polyqueue::{Bound, Dedup, DedupUntil, Overflow, Queue, QueueSpec, Retention, RoutingKey};

use crate::args::{Output, Topology};
use crate::exit::{Exit, Result};
use crate::{escape, show, stdout};

pub(crate) async fn run(queue: &dyn Queue, command: Option<&Topology>, output: Output) -> Result<()> {
    let mut specs = queue.queues().await?;
    match command {
        None if specs.is_empty() => Err(Exit::NothingThere("no queue in this namespace".into())),
        None => print(&specs, output),
        Some(Topology::Test { routing_key }) => {
            specs.retain(|spec| reaches(spec, routing_key));
            match specs.is_empty() {
                true => Err(Exit::NothingThere(format!("no queue is bound to the topic {routing_key:?}"))),
                false => print_names(&specs, output),
            }
        }
    }
}

fn reaches(spec: &QueueSpec, key: &RoutingKey) -> bool {
    spec.bindings.iter().any(|pattern| pattern.matches(key))
}

fn print_names(specs: &[QueueSpec], output: Output) -> Result<()> {
    let names: Vec<_> = specs.iter().map(|spec| &spec.name).collect();
    match output {
        Output::Json => stdout::line(show::json(&names)?),
        Output::Table => stdout::lines(names.iter().map(|name| escape::line(name.as_str()))),
    }
}

fn print(specs: &[QueueSpec], output: Output) -> Result<()> {
    match output {
        Output::Json => stdout::line(show::json(&specs)?),
        Output::Table => stdout::line(table(specs)),
    }
}

fn table(specs: &[QueueSpec]) -> comfy_table::Table {
    let mut table = show::table(["queue", "bindings", "bound", "dead letters", "dedup"]);
    for spec in specs {
        let bindings: Vec<_> = spec.bindings.iter().map(|pattern| escape::line(pattern.as_str())).collect();
        table.add_row([
            escape::line(spec.name.as_str()).into_owned(),
            bindings.join("\n"),
            spec.bound.map_or("-".into(), bound),
            retention(spec.dead),
            spec.dedup.map_or("-".into(), dedup),
        ]);
    }
    table
}

fn bound(bound: Bound) -> String {
    let beyond = match bound.overflow {
        Overflow::Reject => "reject",
        Overflow::Block => "block",
        Overflow::DropOldest => "drop oldest",
    };
    format!("{}, {beyond}", bound.max_len)
}

fn retention(dead: Retention) -> String {
    let at_most = dead.max_len.map(|letters| format!("at most {letters}"));
    let for_time = dead.max_age.map(|age| format!("for {}", humantime::format_duration(age)));
    let kept: Vec<String> = at_most.into_iter().chain(for_time).collect();
    if kept.is_empty() { "kept".into() } else { kept.join(", ") }
}

fn dedup(dedup: Dedup) -> String {
    let window = humantime::format_duration(dedup.window);
    match dedup.until {
        DedupUntil::Window => format!("for {window}"),
        DedupUntil::Ack => format!("until acked, at most {window}"),
    }
}
