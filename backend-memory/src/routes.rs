//! The queues of a namespace, and which of them a routing key reaches.

use std::collections::BTreeMap;
use std::sync::Arc;

use polyqueue::{Error, Meter, Pattern, QueueName, QueueSpec, Result, RoutingKey};

use crate::cell::Cell;
use crate::clock::Clock;
use crate::desk::Desk;
use crate::mutants::{Bug, planted};

/// The queues of a namespace.
#[derive(Debug, Default)]
pub(crate) struct Routes(BTreeMap<QueueName, Route>);

#[derive(Debug)]
struct Route {
    spec: QueueSpec,
    cell: Arc<Cell>,
}

impl Routes {
    /// Makes a queue, or binds the one that is there; whether it is new.
    ///
    /// # Errors
    /// `Invalid` when the one that is there differs.
    pub(crate) fn declare(&mut self, spec: &QueueSpec, clock: Clock) -> Result<bool> {
        if let Some(route) = self.0.get_mut(&spec.name) {
            spec.check_redeclared(&route.spec)?;
            route.spec.bindings.extend(spec.bindings.iter().cloned());
            return Ok(false);
        }
        let route = Route { spec: spec.clone(), cell: Arc::new(Cell::new(spec, clock)) };
        self.0.insert(spec.name.clone(), route);
        Ok(true)
    }

    /// # Errors
    /// `NotFound` for an unknown queue; a binding that is not there is none.
    pub(crate) fn unbind(&mut self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        let route = self.0.get_mut(queue).ok_or_else(|| Error::not_found(queue))?;
        if !planted(Bug::UnbindForgets) {
            route.spec.bindings.remove(pattern);
        }
        Ok(())
    }

    pub(crate) fn get(&self, queue: &QueueName) -> Option<&Arc<Cell>> {
        Some(&self.0.get(queue)?.cell)
    }

    pub(crate) fn remove(&mut self, queue: &QueueName) -> Option<Arc<Cell>> {
        Some(self.0.remove(queue)?.cell)
    }

    pub(crate) fn specs(&self) -> Vec<QueueSpec> {
        self.0.values().map(|route| route.spec.clone()).collect()
    }

    /// The queues that are bound to this key, once each, in the order of their names.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(crate) fn reached(&self, key: &RoutingKey, meter: &Meter) -> Result<Vec<Desk>> {
        let mut reached = Vec::new();
        for (name, route) in &self.0 {
            if route.spec.bindings.iter().any(|pattern| pattern.matches(key)) {
                reached.push(Desk::new(route.cell.clone(), meter.of(name)));
            }
        }
        if planted(Bug::FanOutStops) {
            reached.truncate(1);
        }
        if reached.is_empty() { Err(Error::not_found(key)) } else { Ok(reached) }
    }
}
