//! What one handle and its consumers share.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use polyqueue::backend::{Batcher, Deadline, Lifecycle};
use polyqueue::{Error, Info, Meter, QueueName, Result};

use crate::catalogue::Catalogue;
use crate::consumer::Core;
use crate::keys;
use crate::keys::QueueKeys;
use crate::link::{Link, Reply, Request, Script};
use crate::publisher::{Pace, Publisher};
use crate::settler::Settler;
use crate::topics::Topics;
use crate::wakers::Wakers;

/// What one handle and its consumers share.
pub(crate) struct Hub {
    pub(crate) link: Arc<Link>,
    pub(crate) wakers: Arc<Wakers>,
    pub(crate) info: Info,
    pub(crate) namespace: String,
    /// Names this handle on the server.
    pub(crate) tag: String,
    pub(crate) deadline: Duration,
    pub(crate) clock_offset: TimeDelta,
    pub(crate) meter: Arc<Meter>,
    pub(crate) busy: Lifecycle,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) topics: Arc<Batcher<Topics>>,
    /// Numbers consumers, and publishers that wait for room.
    pub(crate) consumers: AtomicU64,
    cores: Mutex<Vec<Weak<Core>>>,
    routes: Mutex<HashMap<QueueName, Arc<Route>>>,
}

/// What a handle keeps for one queue.
pub(crate) struct Route {
    pub(crate) queue: QueueName,
    pub(crate) keys: QueueKeys,
    pub(crate) publish: Arc<Batcher<Publisher>>,
    pub(crate) pace: Arc<Pace>,
    /// Set once it is known that the queue keeps dedup keys.
    pub(crate) keeps_keys: OnceLock<()>,
    pub(crate) settle: Arc<Batcher<Settler>>,
}

/// The parts of a hub that are known when it is opened.
pub(crate) struct Opened {
    pub(crate) link: Arc<Link>,
    pub(crate) wakers: Arc<Wakers>,
    pub(crate) info: Info,
    pub(crate) namespace: String,
    pub(crate) tag: String,
    pub(crate) deadline: Duration,
    pub(crate) clock_offset: TimeDelta,
}

impl Hub {
    pub(crate) fn new(opened: Opened) -> Arc<Self> {
        let (meter, busy) = (Arc::<Meter>::default(), Lifecycle::default());
        let catalogue = Arc::new(Catalogue::new(opened.link.clone(), opened.namespace.clone()));
        let topics = Topics {
            link: opened.link.clone(),
            namespace: opened.namespace.clone(),
            catalogue: catalogue.clone(),
            meter: meter.clone(),
        };
        Arc::new(Self {
            topics: Batcher::new(topics, opened.deadline, busy.clone()),
            catalogue,
            link: opened.link,
            wakers: opened.wakers,
            info: opened.info,
            namespace: opened.namespace,
            tag: opened.tag,
            deadline: opened.deadline,
            clock_offset: opened.clock_offset,
            meter,
            busy,
            consumers: AtomicU64::new(1),
            cores: Mutex::default(),
            routes: Mutex::default(),
        })
    }

    /// # Errors
    /// [`Error::Closed`] once the handle was closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.busy.check_open()
    }

    /// Whether this call closed it.
    pub(crate) fn shut(&self) -> bool {
        self.busy.close()
    }

    /// Keeps a consumer in mind until it is dropped.
    pub(crate) fn remember(&self, core: &Arc<Core>) {
        let mut cores = self.cores.lock();
        cores.retain(|core| core.strong_count() > 0);
        cores.push(Arc::downgrade(core));
    }

    /// All consumers that were not dropped.
    pub(crate) fn open_consumers(&self) -> Vec<Arc<Core>> {
        self.cores.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Where one with this number is woken: by its number, which may be followed by how messages can be leased to it.
    pub(crate) fn waiter(&self, number: u64) -> String {
        format!("{}|{number}", keys::channel(&self.namespace, &self.tag))
    }

    /// This client's wall clock.
    pub(crate) fn wall_clock(&self) -> DateTime<Utc> {
        Utc::now() + self.clock_offset
    }

    pub(crate) fn route(self: &Arc<Self>, queue: &QueueName) -> Arc<Route> {
        let mut routes = self.routes.lock();
        if let Some(route) = routes.get(queue) {
            return route.clone();
        }
        let route = Arc::new(self.new_route(queue));
        routes.insert(queue.clone(), route.clone());
        route
    }

    /// Forgets what it keeps for a queue.
    pub(crate) fn forget(&self, queue: &QueueName) {
        self.routes.lock().remove(queue);
    }

    fn new_route(&self, queue: &QueueName) -> Route {
        let keys = QueueKeys::new(&self.namespace, queue);
        let meter = self.meter.of(queue);
        let (link, deadline, pace) = (&self.link, self.deadline, Arc::<Pace>::default());
        let publisher = Publisher {
            link: link.clone(),
            queue: queue.clone(),
            keys: keys.clone(),
            meter: meter.clone(),
            pace: pace.clone(),
        };
        let settler = Settler { link: link.clone(), keys: keys.clone(), meter };
        Route {
            queue: queue.clone(),
            keys,
            publish: Batcher::new(publisher, deadline, self.busy.clone()),
            pace,
            keeps_keys: OnceLock::new(),
            settle: Batcher::new(settler, deadline, self.busy.clone()),
        }
    }

    /// Calls a script on a queue: `what` names it in errors, `fill` adds its arguments.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the script answers 0, which all of ours do for an unknown queue.
    pub(crate) async fn run(
        &self,
        what: &'static str,
        script: &'static Script,
        queue: &QueueName,
        fill: impl FnOnce(&mut Request),
    ) -> Result<Reply> {
        let mut request = Request::script(script, &QueueKeys::new(&self.namespace, queue));
        fill(&mut request);
        match self.call(what, request).await? {
            Reply::Number(0) => Err(Error::not_found(queue.clone())),
            reply => Ok(reply),
        }
    }

    pub(crate) async fn call(&self, what: &'static str, request: Request) -> Result<Reply> {
        self.check_open()?;
        Ok(self.link.call(request, Deadline::new(what, self.deadline)).await?.reply)
    }
}
