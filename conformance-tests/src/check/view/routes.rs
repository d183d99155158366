//! Which queues a message to a topic reached, as far as the history can tell.

use std::collections::BTreeMap;

use polyqueue::{Certainty, Pattern, QueueName, RoutingKey};

use super::span::Span;
use crate::history::{Answer, Call, History};

/// How queues were bound and unbound.
#[derive(Debug, Default)]
pub(super) struct Routes<'a>(BTreeMap<&'a QueueName, Changes<'a>>);

#[derive(Debug, Default)]
struct Changes<'a> {
    binds: BTreeMap<&'a Pattern, Vec<Change>>,
    unbinds: BTreeMap<&'a Pattern, Vec<Change>>,
    deletes: Vec<Change>,
}

/// A call that changed bindings, or may have.
#[derive(Clone, Copy, Debug)]
struct Change {
    span: Span,
    sure: bool,
}

/// Whether a message reached a queue by its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reached {
    No,
    Perhaps,
    Surely,
}

impl<'a> Routes<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut routes = Self::default();
        for event in &history.events {
            let span = Span { inv: event.inv, ret: event.ret };
            match &event.call {
                Call::Declare { spec, answer } => {
                    let Some(change) = change(span, answer) else { continue };
                    let changes = routes.0.entry(&spec.name).or_default();
                    spec.bindings.iter().for_each(|it| changes.binds.entry(it).or_default().push(change));
                }
                Call::Unbind { queue, pattern, answer } => {
                    let Some(change) = change(span, answer) else { continue };
                    routes.0.entry(queue).or_default().unbinds.entry(pattern).or_default().push(change);
                }
                Call::Delete { queue, answer } => {
                    let Some(change) = change(span, answer) else { continue };
                    routes.0.entry(queue).or_default().deletes.push(change);
                }
                _ => {}
            }
        }
        routes
    }

    /// The queues that a publish to `key` may have reached.
    pub(super) fn reached(&self, key: &RoutingKey, publish: Span) -> Vec<(&'a QueueName, Reached)> {
        let all = self.0.iter().map(|(queue, changes)| (*queue, changes.reached(key, publish)));
        all.filter(|(_, reached)| *reached > Reached::No).collect()
    }
}

/// `None` when it surely changed nothing.
fn change<T>(span: Span, answer: &Answer<T>) -> Option<Change> {
    match answer {
        Some(Ok(_)) => Some(Change { span, sure: true }),
        Some(Err(Certainty::Definite)) => None,
        None | Some(Err(Certainty::Unknown)) => Some(Change { span, sure: false }),
    }
}

impl Changes<'_> {
    fn reached(&self, key: &RoutingKey, publish: Span) -> Reached {
        let matching = self.binds.iter().filter(|(pattern, _)| pattern.matches(key));
        let each = matching.map(|(pattern, binds)| {
            let unbinds = self.unbinds.get(*pattern).into_iter().flatten();
            bound(binds, &unbinds.chain(&self.deletes).copied().collect::<Vec<_>>(), publish)
        });
        each.max().unwrap_or(Reached::No)
    }
}

/// Whether one pattern was bound when the publish was routed.
fn bound(binds: &[Change], removals: &[Change], publish: Span) -> Reached {
    let in_time = |change: &&Change| publish.ret.is_none_or(|ret| change.span.inv.seq < ret.seq);
    let removals: Vec<&Change> = removals.iter().filter(in_time).collect();
    let stands = |bind: &Change| {
        let after_all = removals.iter().all(|removal| removal.span.before(bind.span.inv));
        bind.sure && bind.span.before(publish.inv) && after_all
    };
    let gone = |bind: &Change| {
        let undone = |it: &&&Change| it.sure && bind.span.before(it.span.inv) && it.span.before(publish.inv);
        removals.iter().any(|removal| undone(&removal))
    };
    let binds: Vec<&Change> = binds.iter().filter(in_time).collect();
    if binds.iter().any(|bind| stands(bind)) {
        Reached::Surely
    } else if binds.iter().all(|bind| gone(bind)) {
        Reached::No
    } else {
        Reached::Perhaps
    }
}
