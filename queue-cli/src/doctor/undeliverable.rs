//! Whether messages lie where nobody can be given them.

use std::collections::BTreeMap;

use polyqueue::QueueName;

use super::finding::Finding;

const CHECK: &str = "undeliverable";

/// RabbitMQ: delayed messages that were due and found no queue for a day.
pub(super) fn lost(count: &Result<u64, String>) -> Finding {
    match count {
        Ok(0) => Finding::good(CHECK, "none"),
        Ok(count) => Finding::wrong(
            CHECK,
            format!("{count} delayed messages lie in polyqueue.lost: nobody knew their queue for a day"),
            "each names its queue in its header x-pq-to: publish it there again, or purge polyqueue.lost",
        ),
        Err(why) => Finding::unseen(CHECK, why),
    }
}

/// Redis: entries that no reader can make a message of.
pub(super) fn unreadable(found: &Result<BTreeMap<QueueName, u64>, String>) -> Finding {
    match found {
        Ok(none) if none.is_empty() => Finding::good(CHECK, "none"),
        Ok(some) => {
            let each: Vec<String> = some.iter().map(|(queue, count)| format!("{queue}: {count}")).collect();
            let next = "whoever consumes sets them aside as dead letters; look for a program that writes into these streams";
            Finding::wrong(CHECK, format!("entries that cannot be read: {}", each.join(", ")), next)
        }
        Err(why) => Finding::unseen(CHECK, why),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn what_nobody_can_be_given_is_wrong() {
        assert_eq!(lost(&Ok(0)).state, State::Good);
        assert_eq!(lost(&Ok(2)).state, State::Wrong);
        assert_eq!(lost(&Err("denied".into())).state, State::Unknown);
        assert_eq!(unreadable(&Ok(BTreeMap::new())).state, State::Good);
        let some = unreadable(&Ok(BTreeMap::from([(QueueName::from_static("mail"), 3)])));
        assert_eq!((some.state, some.found.as_str()), (State::Wrong, "entries that cannot be read: mail: 3"));
        assert_eq!(unreadable(&Err("NOPERM".into())).state, State::Unknown);
    }
}
