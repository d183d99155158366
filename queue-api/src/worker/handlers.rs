//! The handlers that a worker was given.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, Result, RetryPolicy};

use super::handler::ErasedHandler;
use super::options::HandlerOptions;
use super::route::{Given, Route, Routes};

/// The handlers that a worker was given.
#[derive(Default)]
pub(super) struct Handlers {
    by_kind: HashMap<&'static str, Given>,
    others: Option<Given>,
}

impl Handlers {
    pub(super) fn add(
        &mut self,
        kind: &'static str,
        handler: impl ErasedHandler + 'static,
        options: HandlerOptions,
    ) -> Result<()> {
        options.check()?;
        match self.by_kind.insert(kind, (Arc::new(handler), options)) {
            None => Ok(()),
            Some(_) => Err(twice(&format!("kind {kind:?}"))),
        }
    }

    pub(super) fn add_others(
        &mut self,
        handler: impl ErasedHandler + 'static,
        options: HandlerOptions,
    ) -> Result<()> {
        options.check()?;
        match self.others.replace((Arc::new(handler), options)) {
            None => Ok(()),
            Some(_) => Err(twice("all other kinds")),
        }
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.by_kind.keys().copied().collect()
    }

    /// What their options do not say is as given here.
    pub(super) fn routes(self, retry: &RetryPolicy, timeout: Option<Duration>) -> Routes {
        let route = |given| Arc::new(Route::new(given, retry, timeout));
        Routes {
            by_kind: self.by_kind.into_iter().map(|(kind, given)| (kind, route(given))).collect(),
            others: self.others.map(route),
        }
    }
}

fn twice(what: &str) -> Error {
    Error::invalid("handlers", format!("two given for {what}, allowed is one"))
}
