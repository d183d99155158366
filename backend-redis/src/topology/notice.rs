//! What is said of queues to all handles: what was taken away on purpose is brought back by none.

use polyqueue::{Pattern, QueueName};

/// What is said on the channel of deletions: a name, or a name and a pattern that it is no longer bound to.
#[derive(Debug, PartialEq)]
pub(crate) enum Notice {
    Deleted(QueueName),
    Unbound(QueueName, Pattern),
}

/// No name and no pattern has a line's end in it.
pub(crate) fn unbound_text(queue: &QueueName, pattern: &Pattern) -> String {
    format!("{queue}\n{pattern}")
}

pub(crate) fn notice(text: &str) -> Option<Notice> {
    match text.split_once('\n') {
        None => QueueName::new(text).ok().map(Notice::Deleted),
        Some((name, pattern)) => {
            Some(Notice::Unbound(QueueName::new(name).ok()?, Pattern::new(pattern).ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueName = QueueName::from_static("q");

    #[test]
    fn notices_are_read_as_they_are_written() {
        let pattern = Pattern::new("a.#").unwrap();
        assert_eq!(notice("q"), Some(Notice::Deleted(QUEUE)));
        assert_eq!(notice(&unbound_text(&QUEUE, &pattern)), Some(Notice::Unbound(QUEUE, pattern)));
    }
}
