//! Being known to publishers as one that waits: what they give is handed out, and whoever waits no longer says so before
//! anybody can see it.

use std::time::Duration;

use polyqueue::backend::Deadline;
use tokio::time::{Instant, sleep};

use super::Pump;

/// How long after it was given a message it asks for more at the latest: with the first verdict, for until then a handler may
/// have something to send that matters more.
const MANNERS: Duration = Duration::from_millis(1);
/// How long it stays known as one that waits after its last receive was dropped: the next one follows at once as a rule.
const LINGER: Duration = Duration::from_millis(10);
/// How long it tries to be found no longer.
const FAREWELL: Duration = Duration::from_secs(1);

impl Pump {
    /// Hands out what the server gave; what nobody wants, or may not be held, goes back.
    pub(super) async fn take_given(&mut self) {
        let given = self.core.bell.take_given();
        if given.is_empty() {
            return;
        }
        self.found();
        let Some(clock) = self.clock else {
            for given in given {
                given.give_back(self.core.hub.link.clone()).await;
            }
            return;
        };
        self.core.forget_judged();
        self.polite = Some(Instant::now() + MANNERS);
        let mut deliveries = self.core.accept(given, clock).await;
        let beyond = deliveries.split_off(self.core.leases.capacity().min(deliveries.len()));
        let surplus = self.core.hand_out(deliveries);
        self.core.give_back(&surplus).await;
        self.core.give_back(&beyond).await;
    }

    /// Nobody wants anything.
    pub(super) async fn idle(&mut self) {
        if self.core.bell.take_rung() {
            self.found();
            self.pass_on();
        }
        if !self.waits {
            return tokio::select! {
                () = self.core.bell.wait() => {}
                () = self.core.pending.changed() => {}
            };
        }
        tokio::select! {
            () = self.core.bell.wait() => {}
            () = self.core.pending.changed() => {}
            () = sleep(LINGER) => drop(self.last_call().await),
        }
    }

    /// Somebody has found it among those that wait; whether before or after it went there last, it knows only while no other news
    /// may be on its way.
    pub(super) fn found(&mut self) {
        self.waits &= self.unheard;
        self.ask_at_once();
    }

    /// Publishers find others from now on. Answers whether one has found it just before, and what that led to is here.
    pub(super) async fn last_call(&mut self) -> bool {
        let limit = Deadline::new("leaving a queue", FAREWELL.min(self.core.hub.deadline));
        self.unheard |= std::mem::take(&mut self.waits) && !self.core.leave(limit).await;
        if !std::mem::take(&mut self.unheard) {
            return false;
        }
        self.core.hub.link.listen_up(limit).await;
        self.core.bell.has_news()
    }

    /// It has ended: nothing must be given to it any more, and what was comes back.
    pub(super) async fn end(&mut self) {
        self.last_call().await;
        self.core.fall_silent();
        self.take_given().await;
        let returned = self.core.pending.returned();
        self.core.give_back(&returned).await;
        if self.core.bell.take_rung() {
            self.pass_on();
        }
    }
}
