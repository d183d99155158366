//! Dead letters: entries of a stream, read a page at a time.

use chrono::{DateTime, Utc};
use polyqueue::{
    Certainty, Cursor, DeadBody, DeadFilter, DeadId, DeadLetter, DeadPage, DeadReason, Error, Page, Priority,
    QueueName, Result,
};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::handle::Handle;
use crate::connection::steps::{in_time, strange};
use crate::scripts;
use crate::wire::codec;
use crate::wire::codec::{Fields, Unreadable};
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// The most entries of one read.
const CHUNK: usize = 100;
/// The most reads of one page, so that a filter that nothing matches ends.
const MAX_READS: usize = 20;
/// How many fields of its own a dead letter has, before those of its message.
const OWN_FIELDS: usize = 7;

/// Whether this can be the id of a dead letter: one of a stream's entry.
pub(crate) fn is_id(id: &DeadId) -> bool {
    is_stream_id(id.as_str())
}

fn is_stream_id(text: &str) -> bool {
    let number = |part: &str| part.parse::<u64>().is_ok() && !part.starts_with('+');
    text.split_once('-').is_some_and(|(ms, seq)| number(ms) && number(seq))
}

/// Where a page starts, and, but for a first one, the last letter that was there when the listing began.
fn bounds(page: &Page) -> Result<(String, Option<String>)> {
    let Some(cursor) = &page.after else { return Ok(("-".into(), None)) };
    let bounds = cursor.as_str().split_once(':').filter(|(at, last)| is_stream_id(at) && is_stream_id(last));
    let (at, last) = bounds.ok_or_else(|| Error::invalid("cursor", "not one of this backend"))?;
    Ok((format!("({at}"), Some(last.to_owned())))
}

/// The letters that match, after what is due was applied: no more than `page.limit`, and none when enough was read.
///
/// # Errors
/// `Invalid` for a cursor that is none of ours.
pub(crate) async fn page(
    handle: &Handle,
    queue: &QueueName,
    filter: &DeadFilter,
    page: Page,
) -> Result<DeadPage> {
    let (start, last) = bounds(&page)?;
    let end = Instant::now() + handle.deadline;
    while applied(handle, queue).await? {
        in_time(handle, "dead letters", end)?;
    }
    // A page that took long ends with what it has found, and says where to go on.
    let enough = Instant::now() + handle.deadline / 4;
    let last = match last {
        Some(last) => last,
        None => match newest(handle, queue).await? {
            Some(newest) => newest,
            None => return Ok(DeadPage::default()),
        },
    };
    list(handle, queue, filter, (start, last), page.limit, enough).await
}

/// Applies what is due. Answers whether there may be more.
async fn applied(handle: &Handle, queue: &QueueName) -> Result<bool> {
    let reply = handle.run("dead letters", &scripts::APPLY, queue, |_| {}).await?;
    let answer = reply.into_list().ok_or_else(|| strange("dead letters"))?;
    handle.meter.of(queue).dropped(answer.get(1).map_or(0, Reply::count));
    Ok(answer.first().map_or(0, Reply::count) == 1)
}

/// The letter that died last.
async fn newest(handle: &Handle, queue: &QueueName) -> Result<Option<String>> {
    let newest = read(handle, queue, "XREVRANGE", ("+", "-"), 1).await?;
    Ok(newest.into_iter().next().map(|(id, _)| id))
}

/// Reads entries until there are `limit` that match, or no more, or enough was read, or time has passed.
async fn list(
    handle: &Handle,
    queue: &QueueName,
    filter: &DeadFilter,
    (mut start, last): (String, String),
    limit: usize,
    enough: Instant,
) -> Result<DeadPage> {
    let mut letters = Vec::new();
    for _ in 0..MAX_READS {
        let count = (limit - letters.len()).min(CHUNK);
        let entries = read(handle, queue, "XRANGE", (&start, &last), count).await?;
        let ended = entries.len() < count || entries.last().is_some_and(|(id, _)| *id == last);
        if let Some((id, _)) = entries.last() {
            start = format!("({id}");
        }
        let read = entries.into_iter().map(|(id, fields)| letter(queue, &id, fields));
        letters.extend(read.filter(|letter| filter.matches(letter)));
        if ended {
            return Ok(DeadPage { dead_letters: letters, next: None });
        }
        if letters.len() >= limit || Instant::now() >= enough {
            break;
        }
    }
    let next = start.strip_prefix('(').map(|at| Cursor::new(format!("{at}:{last}")));
    Ok(DeadPage { dead_letters: letters, next })
}

async fn read(
    handle: &Handle,
    queue: &QueueName,
    command: &'static str,
    (from, to): (&str, &str),
    count: usize,
) -> Result<Vec<(String, Fields)>> {
    let mut request = Request::plain(command);
    request.arg(QueueKeys::new(&handle.namespace, queue).dead()).arg(from).arg(to);
    request.arg("COUNT").number(count as u64);
    let reply = handle.call("dead letters", request).await?;
    let entry = |entry: Reply| {
        let [id, fields] = <[Reply; 2]>::try_from(entry.into_list()?).ok()?;
        Some((id.into_text()?, Fields::from_reply(fields)?))
    };
    let entries = reply.into_list().and_then(|list| list.into_iter().map(entry).collect());
    entries.ok_or_else(|| Error::backend(NAME, Certainty::Definite, "a dead letter that is no entry"))
}

fn letter(queue: &QueueName, id: &str, mut fields: Fields) -> DeadLetter {
    let death = match fields.get("dr") {
        Some(_) => Death::read(&fields.split_front(OWN_FIELDS)),
        None => Err(Unreadable("not a dead letter of this library".into())),
    };
    let death = death.unwrap_or_else(|Unreadable(error)| Death::unknown(error));
    let message = codec::read(&fields, &death.stream_id, death.priority);
    let body = message.map_or_else(|_| DeadBody::Raw(fields.raw()), |m| DeadBody::Message(Box::new(m)));
    let mut letter = DeadLetter::new(DeadId::new(id), queue.clone(), body, death.reason, time(id));
    letter.error = death.error;
    letter.attempts = death.attempts;
    letter.total_attempts = death.total;
    letter.redriven = fields.number("rd").ok().flatten().unwrap_or_default();
    letter.consumer = death.consumer;
    letter
}

/// When an entry was written, by the server's clock.
fn time(stream_id: &str) -> DateTime<Utc> {
    let ms = stream_id.split('-').next().and_then(|ms| ms.parse().ok());
    ms.and_then(DateTime::from_timestamp_millis).unwrap_or_default()
}

/// What a dead letter says of the death.
struct Death {
    reason: DeadReason,
    error: String,
    attempts: u32,
    total: u32,
    consumer: Option<String>,
    stream_id: String,
    priority: Priority,
}

impl Death {
    fn read(fields: &Fields) -> Result<Self, Unreadable> {
        let text = |name| Ok(fields.text(name)?.unwrap_or_default().to_owned());
        let number = |name| Ok(fields.number(name)?.unwrap_or_default());
        let unreadable = |_| Unreadable("not a dead letter of this version".into());
        Ok(Self {
            reason: text("dr")?.parse().map_err(unreadable)?,
            error: text("de")?,
            attempts: number("da")?,
            total: number("dt")?,
            consumer: Some(text("dc")?).filter(|name| !name.is_empty()),
            stream_id: text("do")?,
            priority: Priority::new(number("dp")?).map_err(unreadable)?,
        })
    }

    fn unknown(error: String) -> Self {
        Self {
            reason: DeadReason::Undecodable,
            error,
            attempts: 0,
            total: 0,
            consumer: None,
            stream_id: "0-0".into(),
            priority: Priority::DEFAULT,
        }
    }
}
