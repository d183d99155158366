//! Leases whose messages are still on their way, or will never come: found by the nonce that they were to come with.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::backend::Deadline;
use polyqueue::{Error, Result};
use tokio::time::{Instant, sleep};

use crate::connection::node::Node;
use crate::connection::steps::strange;
use crate::scripts;
use crate::settle::batch;
use crate::settle::batch::LeaseVerdict;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;
use crate::wire::time::millis;

/// How many leases are looked through in one call.
const STEP: u64 = 500;
/// The most that go back in one call.
const BACK_AT_ONCE: usize = 100;
const CALL: Duration = Duration::from_secs(5);
/// Between attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Leases of one queue with one nonce.
#[derive(Clone)]
pub(crate) struct Nonce {
    pub(crate) node: Arc<Node>,
    pub(crate) keys: QueueKeys,
    /// As a pattern of the server's.
    pub(crate) pattern: String,
}

impl Nonce {
    /// The leases that there are.
    pub(crate) async fn leases(&self) -> Result<Vec<String>> {
        let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
        loop {
            let mut request = Request::plain("ZSCAN");
            request.arg(self.keys.leases()).arg(&cursor).arg("MATCH").arg(format!("*:{}:*", self.pattern));
            request.arg("COUNT").number(STEP);
            let limit = Deadline::new("looking for leases", CALL);
            let reply = self.node.call_beside(request, limit).await?.reply;
            let parts = reply.into_list().and_then(|parts| <[Reply; 2]>::try_from(parts).ok());
            let [next, members] = parts.ok_or_else(|| strange("a search for leases"))?;
            let members = members.into_list().unwrap_or_default().into_iter().step_by(2);
            found.extend(members.filter_map(Reply::into_text));
            cursor = next.into_text().unwrap_or_default();
            if cursor == "0" || cursor.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Keeps those that are still to come until the caller has them. `until` is when they end.
    pub(crate) async fn keep(&self, lease: Duration, until: &Mutex<Option<Instant>>) {
        let mut leases = Vec::new();
        loop {
            sleep(lease / 3).await;
            if leases.is_empty() {
                leases = self.leases().await.unwrap_or_default();
            }
            if let Ok(Some(end)) = self.extend(&leases, lease).await {
                *until.lock() = Some(end);
            }
        }
    }

    async fn extend(&self, leases: &[String], lease: Duration) -> Result<Option<Instant>> {
        let mut end = None;
        for some in leases.chunks(BACK_AT_ONCE) {
            let mut request = Request::script(&scripts::EXTEND, &self.keys);
            request.number(millis(lease));
            for lease in some {
                request.arg(lease);
            }
            let answer = self.node.call_beside(request, Deadline::new("extend", CALL)).await?;
            end = Some(end.map_or(answer.sent, |end: Instant| end.min(answer.sent)));
        }
        Ok(end.map(|sent| sent + lease))
    }

    /// Gives back what a claim that failed may have leased, attempts unburned: once the server does no such claim any more, and
    /// before the leases end by themselves.
    pub(crate) async fn recover(self, not_after: u64, within: Duration) {
        let end = Instant::now() + within;
        while Instant::now() < end {
            match self.try_to_recover(not_after).await {
                Ok(true) | Err(Error::Closed) => return,
                Ok(false) | Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn try_to_recover(&self, not_after: u64) -> Result<bool> {
        let limit = Deadline::new("giving messages back", CALL);
        let time = self.node.call_beside(Request::plain("TIME"), limit).await?.reply.into_list();
        let [seconds, micros] = &time.unwrap_or_default()[..] else { return Err(strange("TIME")) };
        if seconds.count() * 1000 + micros.count() / 1000 <= not_after {
            return Ok(false);
        }
        self.give_back(&self.leases().await?).await.map(|()| true)
    }

    /// Makes them ready again where they stand.
    pub(crate) async fn give_back(&self, leases: &[String]) -> Result<()> {
        for some in leases.chunks(BACK_AT_ONCE) {
            let mut request = Request::script(&scripts::SETTLE, &self.keys);
            for lease in some {
                batch::write(&LeaseVerdict::unhanded(lease.clone()), &mut request);
            }
            self.node.call(request, Deadline::new("giving messages back", CALL)).await?;
        }
        Ok(())
    }
}
