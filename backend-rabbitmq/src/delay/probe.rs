//! Asking the broker for its time.
//!
//! AMQP has no question for it. A probe is published into a queue where it expires at once; the broker writes on it in which second
//! that was, and sends it to the address that stands in its routing key: ours. Where two probes come back with different seconds, the
//! broker's second turned between them.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Consumer};
use tokio::time::{sleep, timeout};

use crate::connection::session::Session;
use crate::delay::bounds::Seen;
use crate::delay::clock::{BrokerClock, ENOUGH, local};
use crate::wire::delay::CLOCK;

/// RabbitMQ's own address for answers without a queue.
const REPLIES: &str = "amq.rabbitmq.reply-to";
/// A routing key that leads nowhere.
const NOBODY: &str = "polyqueue.nobody";
/// How far apart probes are while an edge is looked for.
const APART: Duration = Duration::from_millis(3);
/// The same around an edge that is known.
const NEAR: Duration = Duration::from_micros(700);
/// How long a probe may be away.
const AWAY: Duration = Duration::from_secs(2);
/// How often the clock is looked at again.
const AGAIN: Duration = Duration::from_secs(60);
/// So many edges are looked at at first.
const EDGES: u32 = 3;

/// A channel on which probes go out and come back.
pub(crate) struct Prober {
    channel: Channel,
    replies: Consumer,
    address: String,
}

impl Prober {
    /// Learns its own address: the broker writes it on a message that comes back from nobody.
    pub(crate) async fn begin(session: &Session) -> lapin::Result<Self> {
        let channel = session.open_channel().await?;
        let none = FieldTable::default();
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let replies = channel.basic_consume(REPLIES.into(), "".into(), options, none);
        let replies = session.answers.answered("ask for the time", replies).await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        session.answers.answered("ask for the time", confirming).await?;
        let properties = BasicProperties::default().with_reply_to(REPLIES.into());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let asked =
            async { channel.basic_publish("".into(), NOBODY.into(), options, b"", properties).await?.await };
        let returned = session.answers.answered("ask for the time", asked).await?.take_message();
        let address = returned.and_then(|message| message.properties.reply_to().clone());
        let address = address.map(|address| address.as_str().to_owned()).unwrap_or_default();
        Ok(Self { channel, replies, address })
    }

    /// Asks until the clock is known well enough, or for as long as that takes where the broker answers at once. An error where nothing comes back, as without what sends probes back.
    pub(crate) async fn sharpen(&mut self, clock: &BrokerClock) -> lapin::Result<()> {
        // What was known of another broker, or of one whose clock was set, falls with the first that comes back.
        let until = Instant::now() + ENOUGH;
        self.ask(clock, APART).await?;
        while !clock.is_sharp() && Instant::now() < until {
            self.ask(clock, APART).await?;
        }
        Ok(())
    }

    /// Looks at the clock again and again.
    pub(crate) async fn keep(&mut self, clock: &BrokerClock) -> lapin::Result<()> {
        for nth in 0_u32.. {
            if nth >= EDGES && clock.is_sharp() {
                sleep(AGAIN).await;
            }
            self.look_at_edge(clock).await?;
            self.sharpen(clock).await?;
        }
        Ok(())
    }

    /// Asks around the time when the broker's next second begins.
    async fn look_at_edge(&mut self, clock: &BrokerClock) -> lapin::Result<()> {
        let Some(bounds) = clock.bounds() else { return Ok(()) };
        let way = 2_000;
        let (from, to) = bounds.edge(local(Instant::now()) + way);
        let wait = from - way - local(Instant::now());
        sleep(Duration::from_micros(u64::try_from(wait).unwrap_or(0))).await;
        while local(Instant::now()) < to + way {
            self.ask(clock, NEAR).await?;
        }
        Ok(())
    }

    /// Sends one probe, and takes what comes until the next is to go, or at least this one.
    async fn ask(&mut self, clock: &BrokerClock, apart: Duration) -> lapin::Result<()> {
        let began = Instant::now();
        let sent = local(began);
        let options = BasicPublishOptions::default();
        let (key, properties) = (self.address.as_str().into(), BasicProperties::default());
        let body = sent.to_be_bytes();
        drop(self.channel.basic_publish(CLOCK.into(), key, options, &body, properties).await?);
        let late = |_| lapin::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        loop {
            let came = timeout(AWAY, self.replies.next()).await.map_err(late)?;
            let Some(came) = came else { return Err(late_end()) };
            let seen = seen(&came?, local(Instant::now()));
            if let Some(seen) = seen {
                clock.saw(seen);
            }
            if seen.is_none_or(|seen| seen.sent == sent) {
                break;
            }
        }
        if let Some(left) = apart.checked_sub(began.elapsed()) {
            sleep(left).await;
        }
        Ok(())
    }
}

fn late_end() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()
}

/// What a probe says that came back.
fn seen(probe: &Delivery, came: i64) -> Option<Seen> {
    let sent = i64::from_be_bytes(probe.data.as_slice().try_into().ok()?);
    let Some(AMQPValue::FieldArray(deaths)) = probe.properties.headers().as_ref()?.inner().get("x-death")
    else {
        return None;
    };
    let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().first() else { return None };
    let Some(AMQPValue::Timestamp(second)) = death.inner().get("time") else { return None };
    Some(Seen { sent, came, second: i64::try_from(*second).ok()? })
}
