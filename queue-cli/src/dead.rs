//! `polyqueue dead`: list, redrive and discard dead letters.

use polyqueue::{DeadId, DeadLetter, Page, Queue};
use serde_json::json;

use crate::args::{Dead, Letters, Output};
use crate::exit::{Exit, Result};
use crate::progress::Progress;
use crate::{escape, show, stderr, stdout};

pub(crate) async fn run(queue: &dyn Queue, command: &Dead, output: Output) -> Result<()> {
    match command {
        Dead::List(letters) => list(queue, letters, output).await,
        Dead::Redrive(letters) => act(queue, letters, Act::Redrive, output).await,
        Dead::Discard { letters, yes } => {
            if letters.means_all() && !yes {
                let text =
                    format!("this discards every dead letter of {:?} for good: add --yes", letters.queue);
                return Err(Exit::Usage(text));
            }
            act(queue, letters, Act::Discard, output).await
        }
    }
}

async fn list(queue: &dyn Queue, args: &Letters, output: Output) -> Result<()> {
    let (mut pages, mut found) = (Pages::new(queue, args), Vec::new());
    while let Some(part) = pages.next().await? {
        found.extend(part);
    }
    match output {
        Output::Json => {
            let shown: Vec<show::Letter<'_>> = found.iter().map(Into::into).collect();
            stdout::line(show::json(&shown)?)?;
        }
        Output::Table if !found.is_empty() => stdout::line(table(&found))?,
        Output::Table => {}
    }
    nothing_if_empty(found.len(), args)
}

/// The letters that are meant, a page at a time, so that neither a broker nor this process ever has all at once.
struct Pages<'a> {
    queue: &'a dyn Queue,
    args: &'a Letters,
    /// How many more are wanted.
    left: usize,
    /// Where to go on; `None` at the end.
    page: Option<Page>,
}

impl<'a> Pages<'a> {
    fn new(queue: &'a dyn Queue, args: &'a Letters) -> Self {
        Self { queue, args, left: args.limit(), page: Some(Page::first(Page::MAX)) }
    }

    /// The next, which may be none; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<DeadLetter>>> {
        let Some(page) = self.page.take().filter(|_| self.left > 0) else { return Ok(None) };
        let part = self.queue.dead_letters(&self.args.queue, &self.args.filter(), page).await?;
        let wanted = |letter: &DeadLetter| self.args.ids.is_empty() || self.args.ids.contains(&letter.id);
        let found: Vec<DeadLetter> = part.dead_letters.into_iter().filter(wanted).take(self.left).collect();
        self.left -= found.len();
        self.page = part.next.map(|cursor| Page::after(cursor, Page::MAX));
        Ok(Some(found))
    }
}

fn table(found: &[DeadLetter]) -> comfy_table::Table {
    let mut table = show::table(["id", "message", "kind", "reason", "attempts", "died at", "error"]);
    for letter in found {
        table.add_row([
            escape::line(letter.id.as_str()).into_owned(),
            letter.message().map_or("-".into(), |m| escape::line(m.id().as_str()).into_owned()),
            letter.message().map_or("-".into(), |m| escape::line(m.kind()).into_owned()),
            letter.reason.to_string(),
            letter.attempts.to_string(),
            show::instant(letter.died_at),
            escape::line(&letter.error.chars().take(80).collect::<String>()).into_owned(),
        ]);
    }
    table
}

#[derive(Clone, Copy)]
enum Act {
    Redrive,
    Discard,
}

impl Act {
    fn done(self) -> &'static str {
        match self {
            Self::Redrive => "redriven",
            Self::Discard => "discarded",
        }
    }
}

/// How many ids one call carries at most.
const BATCH: usize = 100;

async fn act(queue: &dyn Queue, args: &Letters, act: Act, output: Output) -> Result<()> {
    let progress = Progress::new(act.done());
    let done = progress.during(each(queue, args, act, &progress)).await?;
    match output {
        Output::Json => stdout::line(json!({ "queue": args.queue, act.done(): done }))?,
        Output::Table => stdout::line(format_args!("{done} {} in {}", act.done(), args.queue))?,
    }
    nothing_if_empty(done, args)
}

async fn each(queue: &dyn Queue, args: &Letters, act: Act, progress: &Progress) -> Result<usize> {
    // Ids without a filter need no search.
    if !args.ids.is_empty() && args.filter() == polyqueue::DeadFilter::all() {
        let ids: Vec<DeadId> = args.ids.iter().take(args.limit()).cloned().collect();
        return some(queue, args, act, progress, &ids).await;
    }
    let (mut pages, mut done) = (Pages::new(queue, args), 0);
    while let Some(part) = pages.next().await? {
        let ids: Vec<DeadId> = part.into_iter().map(|letter| letter.id).collect();
        done += some(queue, args, act, progress, &ids).await?;
    }
    Ok(done)
}

async fn some(
    queue: &dyn Queue,
    args: &Letters,
    act: Act,
    progress: &Progress,
    ids: &[DeadId],
) -> Result<usize> {
    let mut done = 0;
    for part in ids.chunks(BATCH) {
        let answers = match act {
            Act::Redrive => queue.redrive(&args.queue, part).await?,
            Act::Discard => queue.discard(&args.queue, part).await?,
        };
        for (id, answer) in part.iter().zip(answers) {
            if answer {
                done += 1;
                progress.add(1);
            } else if !args.ids.is_empty() {
                stderr::line(format_args!("polyqueue: no dead letter {id} in {:?}", args.queue));
            }
        }
    }
    Ok(done)
}

fn nothing_if_empty(count: usize, args: &Letters) -> Result<()> {
    match count {
        0 => Err(Exit::NothingThere(format!("no such dead letter in {:?}", args.queue))),
        _ => Ok(()),
    }
}
