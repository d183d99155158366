//! What tells one boot of the broker from the next: messages in a durable queue that are not durable themselves. Who publishes needs one
//! and makes one where there is none; several that begin at once may make several.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{join, join_all};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRecoverOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use tokio::time::sleep;

use crate::connection::fault::is_of_a_channel;
use crate::connection::session::Session;

/// The queue, one for all namespaces of a virtual host.
pub(crate) const QUEUE: &str = "polyqueue.boot";
/// How many are kept, and read, at most.
const MOST: u8 = 16;
/// How often, and with what pause, it is looked again for one that is not there: another that reads hides them for a moment.
const LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(30);
/// Not durable: it is gone with the broker.
const TRANSIENT: u8 = 1;

/// Which boots there are that may be this one; `None` where the user may not know.
pub(crate) async fn ids(
    session: &Session,
    sought: &BTreeSet<String>,
) -> lapin::Result<Option<BTreeSet<String>>> {
    let Some(channel) = open(session).await? else { return Ok(None) };
    unless_refused(
        session,
        session.answers.answered("a look at the boot", seek(&channel, Some(sought))).await,
    )
}

/// The id of this boot, for what is published; `None` where the user may not have one.
pub(crate) async fn own(session: &Session) -> lapin::Result<Option<String>> {
    let Some(channel) = open(session).await? else { return Ok(None) };
    // Another's look hides them for a moment; each that is made too many pushes an older one out.
    let known = session.answers.answered("a look at the boot", seek(&channel, None)).await;
    match unless_refused(session, known)? {
        None => Ok(None),
        Some(known) if !known.is_empty() => Ok(known.into_iter().next()),
        Some(_) => {
            unless_refused(session, session.answers.answered("a mark of the boot", make(&channel)).await)
        }
    }
}

/// `None` where the broker refuses for good.
fn unless_refused<T>(session: &Session, answer: lapin::Result<T>) -> lapin::Result<Option<T>> {
    match answer {
        Err(error) if is_of_a_channel(&error) && !session.fault(&error).is_transient() => Ok(None),
        answer => answer.map(Some),
    }
}

/// A channel on which the queue is there.
async fn open(session: &Session) -> lapin::Result<Option<Channel>> {
    for declare in [true, false] {
        let channel = session.open_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), MOST.into());
        // Another type might keep what is not durable.
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        let options = QueueDeclareOptions { durable: true, passive: !declare, ..Default::default() };
        let declared = channel.queue_declare(QUEUE.into(), options, arguments);
        let declared = session.answers.answered("the queue of the boot", declared).await;
        if unless_refused(session, declared)?.is_some() {
            return Ok(Some(channel));
        }
    }
    Ok(None)
}

/// Looks until these are found, or any where it does not matter which.
async fn seek(channel: &Channel, sought: Option<&BTreeSet<String>>) -> lapin::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE).await;
        }
        found.append(&mut read(channel).await?);
        if sought.map_or(!found.is_empty(), |sought| sought.is_subset(&found)) {
            break;
        }
    }
    Ok(found)
}

/// Takes them and gives them back in one breath.
async fn read(channel: &Channel) -> lapin::Result<BTreeSet<String>> {
    let gets = (0..MOST).map(|_| channel.basic_get(QUEUE.into(), BasicGetOptions::default()));
    let back = channel.basic_recover(BasicRecoverOptions { requeue: true });
    let (got, back) = join(join_all(gets), back).await;
    back?;
    let mut ids = BTreeSet::new();
    for message in got {
        let id = message?.and_then(|message| message.delivery.properties.message_id().clone());
        ids.extend(id.map(|id| id.to_string()));
    }
    Ok(ids)
}

/// Without a body, which the broker takes during an alarm, too.
async fn make(channel: &Channel) -> lapin::Result<String> {
    let id = format!("{:07x}", uuid::Uuid::new_v4().as_u128() & 0xfff_ffff);
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties =
        BasicProperties::default().with_delivery_mode(TRANSIENT).with_message_id(id.as_str().into());
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    channel.basic_publish("".into(), QUEUE.into(), options, b"", properties).await?.await?;
    Ok(id)
}
