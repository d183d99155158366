//! The handle: declare, publish, subscribe, close.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::backend::{Deadline, EventSender, Lifecycle, ProgressWatch, background};
use polyqueue::{
    Admin, ConnectOptions, Consumer, DeadFilter, DeadId, DeadPage, Destination, Error, Events, Health, Inbox,
    Info, Message, MessageId, Page, Pattern, Published, Purge, Queue, QueueName, QueueSpec, QueueStats,
    Reschedule, Result, Subscription, async_trait,
};
use tokio::sync::OnceCell;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

use crate::address::{Address, NAME};
use crate::admin::{health, purge, reschedule, stats};
use crate::connection::handle::{Handle, fresh_tag};
use crate::connection::node::Node;
use crate::connection::notifier::Notifier;
use crate::connection::rights::check_rights;
use crate::consume::consumer::RedisConsumer;
use crate::consume::orphans;
use crate::dead::{listing, redrive};
use crate::inbox::reader::RedisInbox;
use crate::publish::dispatch;
use crate::publish::publishers::Publishers;
use crate::scripts;
use crate::settle::settlers::Settlers;
use crate::topology::catalogue::Catalogue;
use crate::topology::declare;
use crate::topology::revival::{Deletions, Revival};
use crate::topology::watch::Watch;
use crate::wire::names;
use crate::wire::names::QueueKeys;
use crate::wire::request::Request;

/// A deadline beyond this is this one, so that no time overflows.
const LONGEST_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A handle to one Redis server.
pub(crate) struct RedisQueue {
    handle: Arc<Handle>,
    catalogue: Arc<Catalogue>,
    revival: Arc<Revival>,
    watch: OnceCell<Watch>,
    publishers: Publishers,
    settlers: Settlers,
}

/// Connects, and looks whether the server can do what we promise.
pub(crate) async fn connect(options: ConnectOptions) -> Result<Arc<dyn Queue>> {
    Ok(Arc::new(open(options).await?))
}

pub(crate) async fn open(options: ConnectOptions) -> Result<RedisQueue> {
    let address = Address::parse(&options.url, &options.tls)?;
    if options.dedup_store.is_some() {
        let what =
            "a dedup store, for it remembers keys by itself: connect without ConnectOptions::dedup_store";
        return Err(Error::unsupported(NAME, what));
    }
    let (tag, events) = (fresh_tag(), EventSender::new(&options.namespace));
    let (orphaned, orphans) = unbounded_channel();
    let notifier = Arc::new(Notifier::new(orphaned, events.clone()));
    background().spawn(orphans::run(orphans));
    let channel = names::channel(&options.namespace, &tag);
    let deadline = options.deadline.min(LONGEST_DEADLINE);
    let (node, server) = Node::open(address, channel, deadline, notifier.clone()).await?;
    check_rights(&node, &options.namespace, Deadline::new("connect", deadline)).await?;
    let mut info = Info::new(NAME).durable_and_shared();
    info.durable = server.durable;
    let handle = Arc::new(Handle {
        node,
        notifier,
        info,
        namespace: options.namespace,
        tag,
        deadline,
        clock_offset: options.clock_offset,
        meter: Arc::default(),
        lifecycle: Lifecycle::default(),
        events,
        watch: ProgressWatch::default(),
        listening: OnceCell::new_with(Some(())),
        channels: Mutex::default(),
        is_child: false,
    });
    Ok(RedisQueue::new(handle))
}

impl RedisQueue {
    fn new(handle: Arc<Handle>) -> Self {
        let catalogue = Arc::new(Catalogue::new(handle.node.clone(), handle.namespace.clone()));
        let revival =
            Arc::new(Revival::new(handle.node.clone(), handle.namespace.clone(), handle.events.clone()));
        Self {
            publishers: Publishers::new(handle.clone(), catalogue.clone(), revival.clone()),
            settlers: Settlers::new(handle.clone()),
            catalogue,
            revival,
            watch: OnceCell::new(),
            handle,
        }
    }
}

impl RedisQueue {
    /// For tests: whose calls get no answer.
    #[cfg(test)]
    pub(crate) fn starved(&self) -> crate::connection::starved::Starved {
        self.handle.node.answers.starved.clone()
    }

    /// What is used is brought back to a server that has lost it.
    async fn remember(&self, queue: &QueueName) {
        let limit = Deadline::new("declare", self.handle.deadline);
        let channel = names::deleted(&self.handle.namespace);
        let hears = self.watch.get_or_try_init(async || {
            let deletions = Deletions(Arc::downgrade(&self.revival));
            self.handle.notifier.add_inbox(&channel, Arc::new(deletions));
            self.handle.subscribe(&channel, limit).await?;
            Ok::<_, Error>(Watch::start(&self.revival, self.handle.lifecycle.clone()))
        });
        // Whoever does not hear of deletions brings nothing back.
        if hears.await.is_err() {
            return;
        }
        self.revival.remember(queue, limit).await;
    }

    /// The first of two that are alike, and the second where the queue was not there and is again.
    async fn revived<T>(
        &self,
        queue: &QueueName,
        [first, second]: [impl Future<Output = Result<T>>; 2],
    ) -> Result<T> {
        let limit = Deadline::new("declaring again", self.handle.deadline);
        match first.await {
            Err(Error::NotFound(_)) if self.revival.revive(queue, limit).await => second.await,
            answer => answer,
        }
    }

    async fn is_there(&self, queue: &QueueName) -> Result<bool> {
        let mut request = Request::plain("EXISTS");
        request.arg(QueueKeys::new(&self.handle.namespace, queue).queue());
        Ok(self.handle.call("subscribe", request).await?.number() == Some(1))
    }
}

#[async_trait]
impl Queue for RedisQueue {
    fn info(&self) -> Info {
        self.handle.info.clone()
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.handle.check_open()?;
        self.handle.info.limits.check_spec(spec)?;
        declare::declare(&self.handle, spec).await?;
        self.remember(&spec.name).await;
        Ok(())
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        self.handle.check_open()?;
        self.handle.info.limits.check(to, &batch)?;
        dispatch::publish(&self.publishers, to, batch).await
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        self.handle.check_open()?;
        self.handle.info.limits.check_reschedule(to)?;
        let call = || reschedule::reschedule(&self.handle, queue, id, to);
        self.revived(queue, [call(), call()]).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.handle.check_open()?;
        self.handle.info.limits.check_subscription(subscription)?;
        let limit = Deadline::new("subscribe", self.handle.deadline);
        let queue = &subscription.queue;
        if !self.is_there(queue).await? && !self.revival.revive(queue, limit).await {
            return Err(Error::not_found(queue.clone()));
        }
        self.remember(queue).await;
        self.handle.listen(limit).await?;
        Ok(Box::new(RedisConsumer::start(
            &self.handle,
            self.settlers.of(&subscription.queue),
            self.revival.clone(),
            subscription.clone(),
        )))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.handle.check_open()?;
        Ok(Box::new(RedisInbox::open(&self.handle).await?))
    }

    async fn health(&self) -> Health {
        health::health(&self.handle).await
    }

    fn events(&self) -> Events {
        self.handle.events.events(&self.handle.lifecycle)
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        self.handle.check_open()?;
        self.handle.info.limits.check_namespace(namespace)?;
        Ok(Arc::new(Self::new(Arc::new(self.handle.child(namespace)?))))
    }

    async fn close(&self) -> Result<()> {
        if self.handle.lifecycle.close() {
            if self.handle.node.trouble().is_none() {
                let _ = timeout(self.handle.deadline, self.handle.lifecycle.idle()).await;
            }
            self.handle.end().await;
        }
        Ok(())
    }
}

#[async_trait]
impl Admin for RedisQueue {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        self.handle.check_open()?;
        self.catalogue.queues(Deadline::new("queues", self.handle.deadline)).await
    }

    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        self.handle.check_open()?;
        self.revival.unbound(queue, pattern);
        let unbind = || declare::unbind(&self.catalogue, &self.handle, queue, pattern);
        self.revived(queue, [unbind(), unbind()]).await?;
        self.remember(queue).await;
        Ok(())
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        self.handle.check_open()?;
        self.revival.forget(queue);
        let deleted = declare::delete(&self.handle, queue).await;
        self.publishers.forget(queue);
        self.settlers.forget(queue);
        deleted
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let call = || stats::stats(&self.handle, queue);
        self.revived(queue, [call(), call()]).await
    }

    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        let call = || purge::purge(&self.handle, queue, what);
        self.revived(queue, [call(), call()]).await
    }

    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage> {
        self.handle.check_open()?;
        page.check()?;
        let call = || listing::page(&self.handle, queue, filter, page.clone());
        self.revived(queue, [call(), call()]).await
    }

    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        let each = || redrive::each(&self.handle, "redrive", &scripts::REDRIVE, queue, ids);
        self.revived(queue, [each(), each()]).await
    }

    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        let each = || redrive::each(&self.handle, "discard", &scripts::DISCARD, queue, ids);
        self.revived(queue, [each(), each()]).await
    }
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue")
            .field("node", &self.handle.node)
            .field("namespace", &self.handle.namespace)
            .finish_non_exhaustive()
    }
}
