//! One reading of the catalogue's stream, from the last snapshot to the end, and on as it is written.
//!
//! A stream never says that it is empty, or that this is its end. So a reader writes a mark and reads until that comes.

use std::time::Duration;

use lapin::message::Delivery;
use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable};
use polyqueue::{Certainty, Error, Result};
use tokio::time::timeout;

use crate::address::NAME;
use crate::connection::control::Control;
use crate::connection::control_channel::{ControlChannel, Deliveries};
use crate::connection::fault::{Answer, Refusal, if_there};
use crate::connection::handle::Handle;
use crate::connection::request::Confirm;
use crate::topology::catalogue::{Catalogue, Following, begins_at, offset};
use crate::topology::known::KnownQueues;
use crate::topology::records::Record;

/// How many records are under way at a time.
const WINDOW: u16 = 500;
/// How long a stream may show nothing of what was written to it.
pub(crate) const SILENT: Duration = Duration::from_secs(5);
/// How far back it is looked for somebody who says where the last snapshot is.
const STEPS: [i64; 3] = [32, 512, 4096];

/// What the stream says up to now, and a reader of what is written from now on; `None` where there is no stream.
pub(crate) async fn read(
    handle: &Handle,
    catalogue: &Catalogue,
) -> Result<Option<(KnownQueues, Deliveries)>> {
    let control = handle.control();
    if if_there(control.find_exchange(catalogue.name()).await)?.is_none() {
        return Ok(None);
    }
    match read_all(handle, catalogue).await {
        Ok(read) => Ok(Some(read)),
        Err(Refusal::Missing(_)) => Ok(None),
        Err(Refusal::Taken(error) | Refusal::NotYet(error) | Refusal::Failed(error)) => Err(error),
    }
}

async fn read_all(handle: &Handle, catalogue: &Catalogue) -> Answer<(KnownQueues, Deliveries)> {
    let stream = Stream { control: handle.control(), name: catalogue.name() };
    let last = stream.from(AMQPValue::LongString("last".into())).await?;
    let by = fresh_mark();
    write_mark(handle, catalogue, by.clone()).await?;
    let tail = Tail::read(last, &by).await?;
    let from = match tail.from {
        Some(from) => Some(from),
        None => stream.look_back(tail.first).await?,
    };
    if let Some(from) = from {
        let (read, reader) = stream.up_to(tail.end, Some(from)).await?;
        if read.is_whole() {
            return Ok((read, reader));
        }
        reader.channel.end().await;
    }
    stream.up_to(tail.end, None).await
}

/// The name of a mark that nobody else writes.
pub(crate) fn fresh_mark() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Writes a mark of this name.
///
/// # Errors
/// [`Refusal::Missing`] where there is no stream.
pub(crate) async fn write_mark(handle: &Handle, catalogue: &Catalogue, by: String) -> Answer<()> {
    match handle.store(catalogue.request(&Record::Mark { by })).await? {
        Confirm::Stored => Ok(()),
        Confirm::Unroutable => {
            let said = format!("the catalogue, the stream {:?}, is gone", catalogue.name());
            Err(Refusal::Missing(Error::unavailable(NAME, Certainty::Definite, said)))
        }
    }
}

/// The end of the stream: where its last chunk begins, where one's own mark stands, and where others say that reading begins.
struct Tail {
    first: i64,
    end: i64,
    from: Option<i64>,
}

impl Tail {
    async fn read(mut reader: Deliveries, by: &str) -> Answer<Self> {
        let (mut first, mut from) = (None, None);
        let end = loop {
            let delivery = next(&mut reader).await?;
            let Some(at) = offset(&delivery) else { continue };
            first = first.or(Some(at));
            from = from.max(begins_at(&delivery));
            let record = serde_json::from_slice(&delivery.data);
            if matches!(record, Ok(Record::Mark { by: whose }) if whose == by) {
                break at;
            }
            acknowledge(&reader.channel, &delivery).await?;
        };
        reader.channel.end().await;
        Ok(Self { first: first.unwrap_or(end), end, from })
    }
}

/// The broker's stream.
struct Stream<'a> {
    control: &'a Control,
    name: &'a str,
}

impl Stream<'_> {
    /// Looks before the last chunk for somebody who says where reading begins.
    async fn look_back(&self, first: i64) -> Answer<Option<i64>> {
        for step in STEPS {
            let begin = (first - step).max(0);
            if begin == 0 {
                return Ok(None); // it is as well to read all
            }
            let mut reader = self.from(AMQPValue::LongLongInt(begin)).await?;
            let mut from = None;
            while from.is_none() {
                let delivery = next(&mut reader).await?;
                if offset(&delivery).is_none_or(|at| at >= first) {
                    break;
                }
                from = begins_at(&delivery);
                acknowledge(&reader.channel, &delivery).await?;
            }
            reader.channel.end().await;
            if from.is_some() {
                return Ok(from);
            }
        }
        Ok(None)
    }

    /// All records up to this offset, and a reader of the others.
    async fn up_to(&self, end: i64, from: Option<i64>) -> Answer<(KnownQueues, Deliveries)> {
        let begin = from.map_or_else(|| AMQPValue::LongString("first".into()), AMQPValue::LongLongInt);
        let mut reader = self.from(begin).await?;
        let mut known = KnownQueues::beginning(from);
        loop {
            let delivery = next(&mut reader).await?;
            let at = offset(&delivery).unwrap_or(end);
            known.take(at, &delivery.data);
            acknowledge(&reader.channel, &delivery).await?;
            if at >= end {
                return Ok((known, reader));
            }
        }
    }

    async fn from(&self, offset: AMQPValue) -> Answer<Deliveries> {
        let channel = self.control.dedicated().await?;
        channel.prefetch(WINDOW).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), offset);
        channel.consume(self.name, BasicConsumeOptions::default(), arguments).await
    }
}

/// The next record of a stream that has one.
async fn next(reader: &mut Deliveries) -> Answer<Delivery> {
    let silent = || Error::timeout("reading the catalogue", SILENT, Certainty::Definite);
    let delivery = timeout(SILENT, reader.next()).await.map_err(|_| silent())??;
    let ended = || {
        Error::unavailable(NAME, Certainty::Definite, "the catalogue's stream was deleted while it was read")
    };
    Ok(delivery.ok_or_else(ended)?)
}

/// Asks for more before the window is used up.
async fn acknowledge(channel: &ControlChannel, delivery: &Delivery) -> Answer<()> {
    if delivery.delivery_tag.is_multiple_of(u64::from(WINDOW / 2)) {
        channel.ack_up_to(delivery.delivery_tag).await?;
    }
    Ok(())
}

/// Reads on and on, until the channel ends, or its connection is not used for anything else any more.
pub(crate) async fn follow(
    following: Following,
    mut reader: Deliveries,
    is_current: impl Fn(&ControlChannel) -> bool,
) {
    let followed: Answer<()> = async {
        while let Some(delivery) = reader.next_while_alive(following.catalogue.name(), &is_current).await? {
            following.take(&delivery);
            acknowledge(&reader.channel, &delivery).await?;
        }
        Ok(())
    }
    .await;
    if let Err(refusal) = followed {
        let error = Error::from(refusal);
        tracing::debug!(name: "rabbitmq.catalogue_not_followed", %error, "what other clients declare is not followed for now");
    }
}
