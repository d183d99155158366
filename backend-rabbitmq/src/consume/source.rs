//! How messages come from the broker to one channel: asked for (pull), or sent (push).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt;
use futures_util::{FutureExt, TryFutureExt};
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use crate::connection::answered::Answers;
use crate::connection::queries::{fence, get};

/// How many that a consumer has brought make one event.
const MAX_SENT: usize = 64;

/// The broker's queue, seen through one channel.
pub(crate) struct Source {
    channel: Channel,
    answers: Answers,
    queue: String,
    /// What operators see of its consumers.
    name: String,
    state: State,
    /// A question whether anything is on its way, beside a standing consumer.
    asking: Option<Request>,
}

type Request = BoxFuture<'static, lapin::Result<SourceEvent>>;

enum State {
    Idle,
    Getting(Request),
    Attaching(BoxFuture<'static, lapin::Result<Consumer>>),
    Attached(Consumer),
    Detaching(Request),
}

/// What happened.
pub(crate) enum SourceEvent {
    /// The answer to a question, how many more are ready, and on behalf of which receives it was asked.
    Got(Vec<Delivery>, usize, u64),
    /// A consumer stands.
    Attached,
    /// A consumer brought these.
    Sent(Vec<Delivery>),
    /// A consumer ended; these came before its end. For these receives it was asked whether anything would.
    Detached(Vec<Delivery>, u64),
    /// Whatever was on its way when these receives asked has come.
    AllSent(u64),
}

impl Source {
    pub(crate) fn new(channel: Channel, answers: Answers, queue: String, name: String) -> Self {
        Self { channel, answers, queue, name, state: State::Idle, asking: None }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    pub(crate) fn is_attached(&self) -> bool {
        matches!(self.state, State::Attached(_))
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Asks for up to `max` messages that are ready now: for one, which says how many more there are, and for those.
    pub(crate) fn get(&mut self, max: usize, on_behalf: u64) {
        let (channel, queue) = (self.channel.clone(), self.queue.clone());
        let got = self
            .answered("a consumer's get", get(channel, queue, max))
            .map_ok(move |(got, more)| SourceEvent::Got(got, more, on_behalf));
        self.state = State::Getting(got.boxed());
    }

    /// Begins a standing consumer.
    pub(crate) fn attach(&mut self) {
        let (channel, queue, tag) = (self.channel.clone(), self.queue.clone(), self.tag());
        let consume = async move {
            let options = BasicConsumeOptions::default();
            channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await
        };
        self.state = State::Attaching(self.answered("a consumer's begin", consume).boxed());
    }

    /// The name of a standing consumer, which none had before.
    fn tag(&self) -> String {
        static CONSUMERS: AtomicU64 = AtomicU64::new(1);
        format!("{}-{}-{}", self.name, std::process::id(), CONSUMERS.fetch_add(1, Relaxed))
    }

    /// Ends the standing consumer. What comes before the broker's answer is kept: the client drops nothing until then. If
    /// nothing comes, nothing was ready when these receives asked.
    pub(crate) fn detach(&mut self, on_behalf: u64) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Attached(consumer) => {
                let rest = self.answered("a consumer's end", detach(self.channel.clone(), consumer));
                let mut request = rest.map_ok(move |rest| SourceEvent::Detached(rest, on_behalf)).boxed();
                // The request must be on its way before any later ack, which would make room for one more message.
                if let Some(done) = (&mut request).now_or_never() {
                    request = std::future::ready(done).boxed();
                }
                self.state = State::Detaching(request);
            }
            other => self.state = other,
        }
    }

    /// Asks, beside a standing consumer, whether anything is on its way: the queue answers after what it has sent.
    pub(crate) fn ask(&mut self, on_behalf: u64) {
        let answer = self.answered("a consumer's look", fence(self.channel.clone(), self.queue.clone()));
        self.asking = Some(answer.map_ok(move |_| SourceEvent::AllSent(on_behalf)).boxed());
    }

    /// The answer to a command on the channel, in time.
    fn answered<T: Send, C: Future<Output = lapin::Result<T>> + Send>(
        &self,
        what: &'static str,
        command: C,
    ) -> impl Future<Output = lapin::Result<T>> + Send + use<T, C> {
        let answers = self.answers.clone();
        async move { answers.answered(what, command).await }
    }

    /// What happens next. May be dropped and called again; nothing is lost.
    pub(crate) async fn next(&mut self) -> lapin::Result<SourceEvent> {
        let Self { state, asking, .. } = self;
        tokio::select! {
            biased;
            event = step(state) => event,
            event = asked(asking) => {
                *asking = None;
                event
            }
        }
    }
}

async fn asked(request: &mut Option<Request>) -> lapin::Result<SourceEvent> {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

async fn step(state: &mut State) -> lapin::Result<SourceEvent> {
    match state {
        State::Idle => std::future::pending().await,
        State::Getting(request) | State::Detaching(request) => {
            let event = request.await;
            *state = State::Idle;
            event
        }
        State::Attaching(request) => {
            let consumer = request.await;
            *state = State::Idle;
            *state = State::Attached(consumer?);
            Ok(SourceEvent::Attached)
        }
        State::Attached(consumer) => {
            let (sent, ended) = sent(consumer).await?;
            if ended {
                *state = State::Idle;
                return Ok(SourceEvent::Detached(sent, 0));
            }
            Ok(SourceEvent::Sent(sent))
        }
    }
}

/// The next deliveries, and whether the broker has ended the consumer.
async fn sent(consumer: &mut Consumer) -> lapin::Result<(Vec<Delivery>, bool)> {
    let mut sent = Vec::new();
    let mut next = Some(consumer.next().await);
    while let Some(delivery) = next {
        let Some(delivery) = delivery else { return Ok((sent, true)) };
        sent.push(delivery?);
        next = if sent.len() < MAX_SENT { consumer.next().now_or_never() } else { None };
    }
    Ok((sent, false))
}

async fn detach(channel: Channel, mut consumer: Consumer) -> lapin::Result<Vec<Delivery>> {
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    let mut rest = Vec::new();
    while let Some(delivery) = consumer.next().await {
        rest.push(delivery?);
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use lapin::options::{BasicAckOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions};
    use lapin::{BasicProperties, Connection, ConnectionProperties};
    use polyqueue_conformance::broker::{Broker, RabbitBroker};

    use super::*;

    #[tokio::test]
    async fn an_ack_after_the_end_of_a_consumer_brings_no_more() {
        let broker = RabbitBroker::start().await.unwrap();
        let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default())
            .await
            .unwrap();
        channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
        for body in [b"first", b"later"] {
            let options = BasicPublishOptions::default();
            channel
                .basic_publish("".into(), "q".into(), options, body, BasicProperties::default())
                .await
                .unwrap();
        }

        let mut source = Source::new(channel.clone(), Answers::default(), "q".into(), "reader".into());
        source.attach();
        assert!(matches!(source.next().await.unwrap(), SourceEvent::Attached));
        let SourceEvent::Sent(sent) = source.next().await.unwrap() else { panic!("nothing was sent") };
        assert_eq!(sent[0].data, b"first");

        // Nobody polls the source before the ack is on its way, nor before the queue has dealt with the ack.
        source.detach(0);
        channel.basic_ack(sent[0].delivery_tag, BasicAckOptions::default()).await.unwrap();
        fence(channel.clone(), "q".into()).await.unwrap();
        let SourceEvent::Detached(rest, _) = source.next().await.unwrap() else { panic!("it goes on") };
        assert!(rest.is_empty(), "the ack overtook the end: {rest:?}");
    }
}
