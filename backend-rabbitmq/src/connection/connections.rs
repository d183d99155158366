//! The connections of one client, which its handles in all namespaces share.

use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use polyqueue::backend::EventSender;
use polyqueue::{Certainty, Error, Result};
use tokio::time::{Instant, timeout_at};

use crate::address::{Address, NAME};
use crate::connection::answered::Answers;
use crate::connection::control::Control;
use crate::connection::hold_limit::HoldLimit;
use crate::connection::link::{Attempts, Link};
use crate::connection::publisher::Publisher;
use crate::connection::session::Session;

/// Seconds between heartbeats. A task of the client library outlives its connection by half of it.
const HEARTBEAT: u16 = 5;
/// The same of consumers, by their leases: a process that stands still keeps its connection for two of them, and its leases, unless
/// these end before.
const HEARTBEATS: [u16; 4] = [10, HEARTBEAT, 2, 1];
/// A connection for commands is replaced after so many of its channels have ended by an error: the client library keeps each error
/// for the channel's number.
const WORN: u64 = 64;

/// One for what is published, one for commands, and for consumers one for each heartbeat that their leases ask for.
pub(crate) struct Connections {
    pub(crate) publishing: Link,
    publisher: RwLock<Option<Publisher>>,
    /// One call at a time opens a publisher.
    opening: tokio::sync::Mutex<()>,
    consuming: Mutex<BTreeMap<u16, Vec<Arc<Link>>>>,
    /// For everything that is not published and holds no lease.
    pub(crate) control: Control,
    address: Address,
    /// The one that the first handle is in.
    namespace: Arc<str>,
    attempts: Arc<tokio::sync::Mutex<Attempts>>,
    pub(crate) answers: Answers,
    pub(crate) hold_limit: HoldLimit,
    events: EventSender,
}

impl Connections {
    pub(crate) fn new(address: Address, namespace: &str, deadline: Duration, events: &EventSender) -> Self {
        let namespace: Arc<str> = namespace.into();
        let (attempts, answers) = (Arc::<tokio::sync::Mutex<Attempts>>::default(), Answers::default());
        let hold_limit = HoldLimit::default();
        let link = |purpose, heartbeat| {
            Link::new(address.clone(), purpose, heartbeat, attempts.clone(), answers.clone(), events.clone())
                .of(namespace.clone())
        };
        Self {
            publishing: link("publisher", HEARTBEAT),
            publisher: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
            control: Control::new(Arc::new(link("control", HEARTBEAT).worn_after(WORN)), deadline),
            consuming: Mutex::new(BTreeMap::from([(
                HEARTBEATS[0],
                vec![Arc::new(link("consumer", HEARTBEATS[0]).learning(hold_limit.clone()))],
            )])),
            namespace: namespace.clone(),
            attempts,
            answers,
            hold_limit,
            events: events.clone(),
            address,
        }
    }

    /// A connection for a consumer whose process must be missed within `lease`: one that has room for its channel.
    pub(crate) fn consuming(&self, lease: Duration) -> Arc<Link> {
        let wanted = (lease / 3).as_secs();
        let heartbeat = HEARTBEATS.into_iter().find(|step| u64::from(*step) <= wanted).unwrap_or(1);
        let mut consuming = self.consuming.lock();
        let links = consuming.entry(heartbeat).or_default();
        // Each consumer holds its connection as long as it lives.
        let has_room = |link: &&Arc<Link>| Arc::strong_count(link) <= link.consumers();
        if let Some(link) = links.iter().find(has_room) {
            return link.clone();
        }
        let link = Arc::new(
            self.link("consumer", heartbeat, self.attempts.clone()).learning(self.hold_limit.clone()),
        );
        links.push(link.clone());
        link
    }

    fn link(
        &self,
        purpose: &'static str,
        heartbeat: u16,
        attempts: Arc<tokio::sync::Mutex<Attempts>>,
    ) -> Link {
        let (address, events) = (self.address.clone(), self.events.clone());
        Link::new(address, purpose, heartbeat, attempts, self.answers.clone(), events)
            .of(self.namespace.clone())
    }

    /// One that is dialled beside the others, so that nobody waits for it, and whoever asks for it closes.
    pub(crate) fn beside(&self, purpose: &'static str, heartbeat: u16) -> Link {
        self.link(purpose, heartbeat, Arc::default())
    }

    /// Where to publish.
    pub(crate) async fn publisher(&self, until: Instant) -> Result<Publisher> {
        if let Some(publisher) = self.publishing.live().and_then(|session| self.publisher_on(&session)) {
            return Ok(publisher);
        }
        // Boxed, as all that is rare is on the way of a publish: whoever publishes would carry its room along.
        self.open_publisher(until).boxed().await
    }

    async fn open_publisher(&self, until: Instant) -> Result<Publisher> {
        let session = self.publishing.session(until).await?;
        let late = |_| {
            Error::unavailable(
                NAME,
                Certainty::Definite,
                format!("{}: another call opens a publisher and has no answer", self.address),
            )
        };
        let _one_at_a_time = timeout_at(until, self.opening.lock()).await.map_err(late)?;
        if let Some(publisher) = self.publisher_on(&session) {
            return Ok(publisher);
        }
        let publisher = Publisher::open(&session, &self.address).await?;
        *self.publisher.write() = Some(publisher.clone());
        Ok(publisher)
    }

    /// Which boot of the broker it is, where something is published and that may be known.
    pub(crate) fn boot(&self) -> Option<String> {
        let publisher = self.publishing.live().and_then(|session| self.publisher_on(&session))?;
        publisher.boot().map(str::to_owned)
    }

    fn publisher_on(&self, session: &Session) -> Option<Publisher> {
        self.publisher.read().clone().filter(|publisher| publisher.is_alive(session))
    }

    /// Waits until all that was published before is answered.
    pub(crate) async fn drain(&self, until: Instant) {
        let publisher = self.publisher.read().clone();
        if let Some(publisher) = publisher {
            let _ = timeout_at(until, publisher.drain()).await;
        }
    }

    /// Answers what was published, and ends the connections for good, each within this time.
    pub(crate) async fn close(&self, until: Instant, within: Duration) {
        let opening = timeout_at(until, self.opening.lock()).await;
        let publisher = self.publisher.write().take();
        drop(opening);
        if let Some(publisher) = publisher {
            let _ = timeout_at(until, publisher.drain()).await;
        }
        let links: Vec<Arc<Link>> =
            std::mem::take(&mut *self.consuming.lock()).into_values().flatten().collect();
        let consuming = join_all(links.iter().map(|link| link.close(within)));
        tokio::join!(self.publishing.close(within), self.control.close(within), consuming);
    }
}
