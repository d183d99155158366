//! The handle: declare, publish, subscribe, close.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::CloseReason;
use polyqueue::{
    ConnectOptions, Consumer, Destination, Error, Inbox, Info, Message, Published, Queue, QueueSpec, Result,
    Subscription, async_trait,
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::address::Address;
use crate::consumer::RedisConsumer;
use crate::hub::{Hub, Opened};
use crate::inbox::RedisInbox;
use crate::keys::QueueKeys;
use crate::link::{Link, Request};
use crate::wakers::Wakers;
use crate::{NAME, keys};

/// A deadline beyond this is this one, so that no time overflows.
const LONGEST_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A handle to one Redis server.
pub(crate) struct RedisQueue {
    pub(crate) hub: Arc<Hub>,
}

/// Connects, and looks whether the server can do what we promise.
pub(crate) async fn connect(options: ConnectOptions) -> Result<Arc<dyn Queue>> {
    let address = Address::parse(&options.url)?;
    if options.dedup_store.is_some() {
        let what =
            "a dedup store, for it remembers keys by itself: connect without ConnectOptions::dedup_store";
        return Err(Error::unsupported(NAME, what));
    }
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
        self.hub.check_open()?;
        self.hub.info.limits.check_spec(spec)?;
        self.make(spec).await
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        self.hub.check_open()?;
        self.hub.info.limits.check(to, &batch)?;
        self.send(to, batch).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.hub.check_open()?;
        self.hub.info.limits.check_subscription(subscription)?;
        let mut request = Request::plain("EXISTS");
        request.arg(QueueKeys::new(&self.hub.namespace, &subscription.queue).queue());
        if self.hub.call("subscribe", request).await?.number() != Some(1) {
            return Err(Error::not_found(subscription.queue.clone()));
        }
        Ok(Box::new(RedisConsumer::start(&self.hub, subscription.clone())))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.hub.check_open()?;
        Ok(Box::new(RedisInbox::open(&self.hub).await?))
    }

    async fn close(&self) -> Result<()> {
        if self.hub.shut() {
            for core in self.hub.open_consumers() {
                core.end(CloseReason::Handle);
            }
            self.hub.wakers.close();
            if self.hub.link.trouble().is_none() {
                let _ = timeout(self.hub.deadline, self.hub.busy.idle()).await;
            }
            self.hub.link.close();
        }
        Ok(())
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
