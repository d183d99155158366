//! The handle: declare, publish, subscribe, close.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    ConnectOptions, Consumer, Destination, Error, Inbox, Info, Message, Published, Queue, QueueName,
    QueueSpec, Result, Subscription, async_trait,
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::address::Address;
use crate::consumer::RedisConsumer;
use crate::desk::End;
use crate::hub::{Hub, Opened};
use crate::link::{Link, Request, Script};
use crate::publisher::Outgoing;
use crate::wakers::Wakers;
use crate::{NAME, keys, scripts};

/// What a queue without any settings is declared to be.
const PLAIN: &str = "{}";

/// A deadline beyond this is this one, so that no time overflows.
const LONGEST_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A handle to one Redis server.
pub(crate) struct RedisQueue {
    pub(crate) hub: Arc<Hub>,
}

/// Connects, and looks whether the server can do what we promise.
pub(crate) async fn connect(options: ConnectOptions) -> Result<Arc<dyn Queue>> {
    let address = Address::parse(&options.url)?;
    let tag = Uuid::new_v4().simple().to_string()[..16].to_owned();
    let wakers = Arc::<Wakers>::default();
    let channel = keys::channel(&options.namespace, &tag);
    let deadline = options.deadline.min(LONGEST_DEADLINE);
    let (link, server) = Link::open(address, channel, deadline, wakers.clone()).await?;
    let mut info = Info::new(NAME).durable_and_shared();
    info.durable = server.durable;
    let opened = Opened {
        link,
        wakers,
        info,
        namespace: options.namespace,
        tag,
        deadline,
        clock_offset: options.clock_offset,
    };
    Ok(Arc::new(RedisQueue { hub: Hub::new(opened) }))
}

#[async_trait]
impl Queue for RedisQueue {
    fn info(&self) -> Info {
        self.hub.info.clone()
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        check_plain(spec)?;
        let mut request = self.catalogued(&scripts::DECLARE, &spec.name);
        request.arg(PLAIN);
        self.hub.call("declare", request).await.map(drop)
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        self.hub.check_open()?;
        self.hub.info.limits.check(to, &batch)?;
        check_known(to, &batch)?;
        let Destination::Queue(queue) = to else { return Err(not_yet("topics and replies")) };
        let published_at = self.hub.wall_clock();
        let items = batch.into_iter().map(|message| Outgoing { message, published_at }).collect();
        let answers = self.hub.route(queue).publish.send(items, self.hub.deadline).await;
        let missing = |answer: &Result<Published>| matches!(answer, Err(Error::NotFound(_)));
        if !answers.is_empty() && answers.iter().all(missing) {
            self.hub.forget(queue);
            return Err(Error::not_found(queue.clone()));
        }
        Ok(answers)
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.hub.check_open()?;
        self.hub.info.limits.check_subscription(subscription)?;
        let mut request = Request::plain("EXISTS");
        request.arg(keys::marker(&keys::prefix(&self.hub.namespace, &subscription.queue)));
        if self.hub.call("subscribe", request).await?.number() != Some(1) {
            return Err(Error::not_found(subscription.queue.clone()));
        }
        Ok(Box::new(RedisConsumer::start(&self.hub, subscription.clone())))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        Err(not_yet("inboxes"))
    }

    async fn close(&self) -> Result<()> {
        if self.hub.shut() {
            for core in self.hub.open_consumers() {
                core.end(End::Handle);
            }
            if self.hub.link.trouble().is_none() {
                let _ = timeout(self.hub.deadline, self.hub.busy.idle()).await;
            }
            self.hub.link.close();
        }
        Ok(())
    }
}

impl RedisQueue {
    /// A script that works on a queue and its entry in the catalogue.
    pub(crate) fn catalogued(&self, script: &'static Script, queue: &QueueName) -> Request {
        let namespace = &self.hub.namespace;
        let mut request =
            Request::script(script, &[&keys::prefix(namespace, queue), &keys::catalogue(namespace)]);
        request.arg(queue.as_str());
        request
    }
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue")
            .field("link", &self.hub.link)
            .field("namespace", &self.hub.namespace)
            .finish_non_exhaustive()
    }
}

/// What this backend is still to learn is refused, never ignored.
pub(crate) fn not_yet(what: &str) -> Error {
    Error::unsupported(crate::NAME, format!("{what} yet"))
}

fn check_known(to: &Destination, batch: &[Message]) -> Result<()> {
    let new = |m: &Message| m.ttl().is_some() || m.dedup_key().is_some() || m.reply_to().is_some();
    match to {
        Destination::Queue(_) if !batch.iter().any(new) => Ok(()),
        _ => Err(not_yet("topics, replies, ttl and dedup")),
    }
}

fn check_plain(spec: &QueueSpec) -> Result<()> {
    if *spec == QueueSpec::new(spec.name.clone()) {
        Ok(())
    } else {
        Err(not_yet("bindings, bounds, retention and dedup"))
    }
}
