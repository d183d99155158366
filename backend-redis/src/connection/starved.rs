//! For tests: a client library that never answers, behind every call of some names.

use std::collections::HashSet;

use tokio::sync::watch;

/// The names of the calls whose answers are withheld until they are fed again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starved(watch::Sender<HashSet<&'static str>>);

impl Starved {
    pub(crate) fn starve(&self, what: &'static str) {
        self.0.send_if_modified(|starved| starved.insert(what));
    }

    pub(crate) fn feed(&self) {
        self.0.send_modify(HashSet::clear);
    }

    /// Ends once this call may be answered.
    pub(crate) async fn heard(&self, what: &'static str) {
        let _ = self.0.subscribe().wait_for(|starved| !starved.contains(what)).await;
    }
}
