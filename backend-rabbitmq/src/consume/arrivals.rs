//! What has come and is yet to be sorted: while it is looked up whether a crash of the broker has marked it, all of it waits, in its order.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::message::Delivery;

use crate::connection::boot;
use crate::connection::session::Session;
use crate::consume::boots::{Age, Boots};
use crate::wire::boot::stamp;

type Look = BoxFuture<'static, (BTreeSet<String>, lapin::Result<Option<BTreeSet<String>>>)>;

/// What came by one channel.
pub(crate) struct Arrivals {
    session: Arc<Session>,
    boots: Boots,
    waiting: Vec<Delivery>,
    more: Option<usize>,
    look: Option<Look>,
}

impl Arrivals {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, boots: Boots::default(), waiting: Vec::new(), more: None, look: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn is_looking(&self) -> bool {
        self.look.is_some()
    }

    /// These came; the queue had so many more, where that was asked.
    pub(crate) fn add(&mut self, deliveries: Vec<Delivery>, more: Option<usize>) {
        if self.waiting.is_empty() {
            self.waiting = deliveries;
        } else {
            self.waiting.extend(deliveries);
        }
        self.more = more;
    }

    /// How many more the queue had when it was asked last.
    pub(crate) fn more(&mut self) -> Option<usize> {
        self.more.take()
    }

    /// Whether of all that waits the age is known. Otherwise it is looked for, beginning with `ours`: the boot in which this client
    /// publishes.
    pub(crate) fn can_be_told(&mut self, ours: impl Fn() -> Option<String>) -> bool {
        if self.look.is_some() {
            return false;
        }
        if !self.unknown().is_empty() {
            self.boots.learn(BTreeSet::new(), Some(ours().into_iter().collect()));
        }
        let sought = self.unknown();
        if sought.is_empty() {
            return true;
        }
        let session = self.session.clone();
        let look = async move {
            let found = boot::ids(&session, &sought).await;
            if let Err(error) = &found {
                session.note(error);
            }
            (sought, found)
        };
        self.look = Some(look.boxed());
        false
    }

    /// Ends when it is known. May be dropped and called again.
    pub(crate) async fn looked(&mut self) -> lapin::Result<()> {
        let Some(look) = &mut self.look else { return Ok(()) };
        let (sought, found) = look.await;
        self.look = None;
        self.boots.learn(sought, found?);
        Ok(())
    }

    /// All that waits.
    pub(crate) fn take(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.waiting)
    }

    /// How old one is.
    pub(crate) fn age(&self, delivery: &Delivery) -> Age {
        self.boots.age(stamp(&delivery.properties))
    }

    /// The boots that are said by what came back, and not known.
    fn unknown(&self) -> BTreeSet<String> {
        let came_back = self.waiting.iter().filter(|delivery| delivery.redelivered);
        let said = came_back.filter_map(|delivery| stamp(&delivery.properties));
        said.filter(|said| self.boots.age(Some(said)) == Age::Unknown).map(str::to_owned).collect()
    }
}
