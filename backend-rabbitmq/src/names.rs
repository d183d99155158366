//! What our queues are called on the broker.

use polyqueue::QueueName;

/// The names of one namespace. The middle word keeps users' names and ours apart.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    namespace: String,
}

impl Names {
    pub(crate) fn new(namespace: String) -> Self {
        Self { namespace }
    }

    /// The queue that holds ready messages.
    pub(crate) fn ready(&self, queue: &QueueName) -> String {
        format!("{}.q.{queue}", self.namespace)
    }

    /// The queue that holds dead letters.
    pub(crate) fn dead(&self, queue: &QueueName) -> String {
        format!("{}.dead.{queue}", self.namespace)
    }

    /// Whether a broker's queue holds ready messages of this namespace.
    pub(crate) fn is_ours(&self, object: &str) -> bool {
        object.strip_prefix(&self.namespace).is_some_and(|rest| rest.starts_with(".q."))
    }

    /// The exchange for messages to topics.
    pub(crate) fn topics(&self) -> String {
        format!("{}.topics", self.namespace)
    }

    /// A fresh inbox.
    pub(crate) fn inbox(&self) -> String {
        format!("{}.r.{}", self.namespace, uuid::Uuid::new_v4().simple())
    }

    /// The stream that says which queues there are.
    pub(crate) fn catalogue(&self) -> String {
        format!("{}.catalogue", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_names_and_ours_are_apart_and_fit() {
        let names = Names::new("n".repeat(32));
        let catalogue = QueueName::new("catalogue").unwrap();
        assert_ne!(names.ready(&catalogue), names.catalogue());
        assert!(names.is_ours(&names.ready(&catalogue)) && !names.is_ours("other.q.catalogue"));
        let longest = QueueName::new("x".repeat(200)).unwrap();
        assert!(names.dead(&longest).len() <= 255);
    }
}
