//! A message's envelope, as a command sees it.

use polyqueue::{Bytes, Job};

use crate::show;

/// The message without its payload, as variables.
pub(crate) fn environment(job: &Job<Bytes>) -> Vec<(String, String)> {
    let message = &job.message;
    let mut variables = vec![
        ("POLYQUEUE_ID".into(), message.id().to_string()),
        ("POLYQUEUE_QUEUE".into(), job.queue.to_string()),
        ("POLYQUEUE_KIND".into(), message.kind().to_owned()),
        ("POLYQUEUE_PRIORITY".into(), message.priority().to_string()),
        ("POLYQUEUE_ATTEMPT".into(), job.attempt.to_string()),
        ("POLYQUEUE_MAX_ATTEMPTS".into(), job.max_attempts.to_string()),
        ("POLYQUEUE_PUBLISHED_AT".into(), message.published_at().map(show::instant).unwrap_or_default()),
    ];
    if let Some(id) = message.correlation_id() {
        variables.push(("POLYQUEUE_CORRELATION_ID".into(), id.into()));
    }
    variables.extend(message.headers().iter().map(|(key, value)| (variable(key), value.clone())));
    // An environment cannot hold a NUL.
    variables.into_iter().map(|(name, value)| (name, value.replace('\0', ""))).collect()
}

/// `trace-id` becomes `POLYQUEUE_HEADER_TRACE_ID`.
fn variable(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    std::iter::once("POLYQUEUE_HEADER_")
        .map(String::from)
        .chain([key.chars().map(letter).collect()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::{Message, QueueName};

    #[test]
    fn a_nul_keeps_no_command_from_running() {
        let message = Message::new("x").with_kind("a\0b").with_correlation_id("c\0d");
        let mut job = Job::of(QueueName::from_static("q"), Bytes::new());
        job.message = message.into();
        assert!(environment(&job).iter().all(|(_, value)| !value.contains('\0')));
    }

    #[test]
    fn header_names_become_variables() {
        assert_eq!(variable("trace-id.é"), "POLYQUEUE_HEADER_TRACE_ID__");
    }
}
