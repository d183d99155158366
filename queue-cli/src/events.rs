//! `polyqueue events`: what happens to this command's own handle, a line each, until it is stopped.

use chrono::Utc;
use polyqueue::{Event, Queue};
use serde::Serialize;
use serde_json::Value;

use crate::args::Output;
use crate::exit::{Exit, Result};
use crate::{escape, show, stdout, stop};

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    #[serde(flatten)]
    event: &'a Event,
}

pub(crate) async fn run(queue: &dyn Queue, output: Output) -> Result<()> {
    let mut events = queue.events();
    let stop = stop::requested()?;
    tokio::pin!(stop);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut stop => return Ok(()),
        };
        match event {
            None => return Ok(()),
            Some(event) => print(&Line { at: show::instant(Utc::now()), event: &event }, output)?,
        }
    }
}

fn print(line: &Line<'_>, output: Output) -> Result<()> {
    match output {
        Output::Json => stdout::line(show::json(line)?),
        Output::Table => stdout::line(text(line)?),
    }
}

/// The time, the name, and each field with its own.
fn text(line: &Line<'_>) -> Result<String> {
    let fields = serde_json::to_value(line.event).map_err(|error| Exit::Failed(error.to_string()))?;
    let said = fields.as_object().into_iter().flatten().filter(|(name, _)| *name != "event");
    let said: String = said
        .map(|(name, value)| match value {
            Value::String(text) => format!("  {name}: {}", escape::line(text)),
            other => format!("  {name}: {other}"),
        })
        .collect();
    Ok(format!("{}  {}{said}", line.at, line.event.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_for_people_and_one_for_programs() {
        let event = Event::ConnectionLost { detail: "a\nb".into() };
        let line = Line { at: "now".into(), event: &event };
        assert_eq!(text(&line).unwrap(), r"now  connection_lost  detail: a\nb");
        assert_eq!(show::json(&line).unwrap(), r#"{"at":"now","event":"connection_lost","detail":"a\nb"}"#);
        let unblocked = Line { at: "now".into(), event: &Event::Unblocked };
        assert_eq!(text(&unblocked).unwrap(), "now  unblocked");
    }
}
