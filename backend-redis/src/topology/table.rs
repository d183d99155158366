//! Which queues a topic reaches, at one version of the catalogue.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::{QueueName, QueueSpec, RoutingKey};

use crate::wire::names::QueueKeys;

/// The most routing keys whose routes are kept.
const MAX_ROUTES: usize = 1000;

/// The queues that a topic reaches, by name.
pub(crate) type Route = Arc<[Arc<Bound>]>;

/// The queues that are bound, at one version of the catalogue.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) version: String,
    /// Whether it was read as a whole, not made of an older one and what has changed.
    pub(crate) is_whole: bool,
    /// By name.
    queues: Vec<Arc<Bound>>,
    routes: Mutex<HashMap<RoutingKey, Route>>,
    /// How many there have been: numbers them.
    count: u64,
}

/// A queue that is bound.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Another for each entry of the tables that follow one another.
    pub(crate) number: u64,
    pub(crate) spec: QueueSpec,
    pub(crate) keys: QueueKeys,
}

/// A queue, and what the catalogue says of it now: nothing when it is gone, or nobody can read it.
pub(crate) type Change = (QueueName, Option<QueueSpec>);

impl Table {
    /// What these queues make.
    pub(crate) fn new(version: String, specs: Vec<QueueSpec>, namespace: &str) -> Self {
        let mut table = Self { version, is_whole: true, ..Self::default() };
        let bound = specs.into_iter().filter(|spec| !spec.bindings.is_empty());
        table.queues = bound.map(|spec| Bound::new(&mut table.count, spec, namespace)).collect();
        table.queues.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        table
    }

    /// The next: this one with some changes. Takes the routes that are kept along.
    pub(crate) fn changed(&self, version: String, changes: Vec<Change>, namespace: &str) -> Self {
        let (queues, routes) = (self.queues.clone(), std::mem::take(&mut *self.routes.lock()).into());
        let mut next = Self { version, is_whole: false, queues, routes, count: self.count };
        for (name, spec) in changes {
            let bound = spec.filter(|spec| !spec.bindings.is_empty());
            let bound = bound.map(|spec| Bound::new(&mut next.count, spec, namespace));
            next.replace(&name, bound);
        }
        next
    }

    fn replace(&mut self, name: &QueueName, bound: Option<Arc<Bound>>) {
        replace(&mut self.queues, name, bound.clone());
        for (key, route) in self.routes.get_mut() {
            let now = bound.as_ref().filter(|bound| bound.takes(key));
            if now.is_some() || find(route, name).is_ok() {
                let mut queues = route.to_vec();
                replace(&mut queues, name, now.cloned());
                *route = queues.into();
            }
        }
    }

    /// What a topic reaches.
    pub(crate) fn route(&self, key: &RoutingKey) -> Route {
        if let Some(route) = self.routes.lock().get(key) {
            return route.clone();
        }
        let route: Route = self.queues.iter().filter(|bound| bound.takes(key)).cloned().collect();
        let mut routes = self.routes.lock();
        if routes.len() >= MAX_ROUTES {
            routes.clear();
        }
        routes.insert(key.clone(), route.clone());
        route
    }
}

impl Bound {
    fn new(count: &mut u64, spec: QueueSpec, namespace: &str) -> Arc<Self> {
        *count += 1;
        Arc::new(Self { number: *count, keys: QueueKeys::new(namespace, &spec.name), spec })
    }

    fn takes(&self, key: &RoutingKey) -> bool {
        self.spec.bindings.iter().any(|pattern| pattern.matches(key))
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

fn find(queues: &[Arc<Bound>], name: &QueueName) -> Result<usize, usize> {
    queues.binary_search_by(|bound| bound.spec.name.cmp(name))
}

/// Puts a queue in the place of the one of this name, or where it belongs.
fn replace(queues: &mut Vec<Arc<Bound>>, name: &QueueName, bound: Option<Arc<Bound>>) {
    match (find(queues, name), bound) {
        (Ok(at), Some(bound)) => queues[at] = bound,
        (Ok(at), None) => drop(queues.remove(at)),
        (Err(at), Some(bound)) => queues.insert(at, bound),
        (Err(_), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::Pattern;

    fn spec(name: &'static str, patterns: &[&str]) -> QueueSpec {
        let spec = QueueSpec::new(QueueName::from_static(name));
        patterns.iter().fold(spec, |spec, pattern| spec.bind(Pattern::new(pattern).unwrap()))
    }

    fn reached(table: &Table, key: &'static str) -> Vec<String> {
        let route = table.route(&RoutingKey::new(key).unwrap());
        route.iter().map(|bound| bound.spec.name.as_str().to_owned()).collect()
    }

    #[test]
    fn a_topic_reaches_each_queue_that_is_bound_once() {
        let specs = vec![spec("some", &["a.b"]), spec("all", &["#", "a.*"]), spec("none", &[])];
        let table = Table::new("1".into(), specs, "ns");
        for _ in 0..2 {
            assert_eq!(reached(&table, "a.b"), ["all", "some"]);
            assert_eq!(reached(&table, "c"), ["all"]);
        }
    }

    #[test]
    fn a_table_with_changes_reaches_what_one_that_is_read_anew_does() {
        let steps = [
            ("a", "x", "a b c", "c"),
            ("b", "y", "a c", "b c"),
            ("b", "x y", "a b c", "b c"),
            ("c", "", "a b", "b"),
            ("c", "", "a b", "b"),
            ("d", "*", "a b d", "b d"),
        ];
        for warm in [false, true] {
            let mut table = Table::new("1".into(), vec![spec("b", &["x"]), spec("c", &["#"])], "ns");
            for (name, patterns, x, y) in steps {
                if warm {
                    reached(&table, "x");
                    reached(&table, "y");
                }
                let patterns: Vec<&str> = patterns.split_whitespace().collect();
                let now = Some(spec(name, &patterns)).filter(|now| !now.bindings.is_empty());
                table = table.changed("2".into(), vec![(QueueName::from_static(name), now)], "ns");
                assert_eq!([reached(&table, "x").join(" "), reached(&table, "y").join(" ")], [x, y]);
            }
        }
    }

    #[test]
    fn routes_that_are_kept_are_bounded() {
        let table = Table::new("1".into(), vec![spec("all", &["#"])], "ns");
        for n in 0..3 * MAX_ROUTES {
            assert_eq!(table.route(&RoutingKey::new(format!("k.{n}")).unwrap()).len(), 1);
        }
        assert!(table.routes.lock().len() <= MAX_ROUTES);
    }
}
