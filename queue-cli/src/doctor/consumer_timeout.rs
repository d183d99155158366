//! Whether RabbitMQ lets a message be worked on for as long as a lease lasts.

use std::time::Duration;

use super::finding::Finding;
use super::management::{Answer, Named};
use super::policies::is_ours;

const CHECK: &str = "consumer timeout";
const RULE: &str = "consumer-timeout";
const NEXT: &str = "raise the consumer timeout above the longest lease, or use shorter leases";

/// What a policy says; what the node's own configuration says, no API tells.
pub(super) fn check(queues: &Answer<Vec<Named>>, namespace: &str, lease: Duration) -> Finding {
    let queues = match queues {
        Ok(queues) => queues,
        Err(why) => return Finding::unseen(CHECK, why),
    };
    let set = queues.iter().filter(|named| is_ours(&named.name, namespace));
    let set = set.filter_map(|named| Some((named.rules().get(RULE)?.as_u64()?, named)));
    let Some((millis, named)) = set.min_by_key(|(millis, _)| *millis) else {
        let why = "no policy sets one: the node's consumer_timeout counts, 30 minutes unless configured; --hold finds it out";
        return Finding::unseen(CHECK, why);
    };
    let shortest = Duration::from_millis(millis);
    let found = format!("{} has {shortest:?} by a policy, the lease is {lease:?}", named.name);
    match shortest > lease {
        true => Finding::good(CHECK, found),
        false => Finding::wrong(CHECK, found, NEXT),
    }
}

/// What became of a message that was held for as long as the lease lasts.
pub(super) fn held(limit: &polyqueue::Result<Option<Duration>>, lease: Duration) -> Finding {
    match limit {
        Ok(None) => Finding::good(CHECK, format!("a message was held for {lease:?}")),
        Ok(Some(limit)) => Finding::wrong(
            CHECK,
            format!("the broker lets a message be held for {limit:?}, the lease is {lease:?}"),
            NEXT,
        ),
        Err(error) => Finding::unseen(CHECK, error.to_string()),
    }
}

pub(super) fn not_tried() -> Finding {
    Finding::unseen(CHECK, "not seen, give --hold, which takes a lease and a minute, or --management")
}

#[cfg(test)]
mod tests {
    use polyqueue::Error;

    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_timeout_within_the_lease_is_wrong() {
        let queues = |millis: u64| -> Answer<Vec<Named>> {
            let json = format!(
                r#"[{{"name":"ns.q.a","effective_policy_definition":{{"consumer-timeout":{millis}}}}},{{"name":"other"}}]"#
            );
            Ok(serde_json::from_str(&json).unwrap())
        };
        let lease = Duration::from_secs(30);
        for (millis, state) in [(60_000, State::Good), (30_000, State::Wrong), (1_000, State::Wrong)] {
            assert_eq!(check(&queues(millis), "ns", lease).state, state, "{millis}");
        }
        for (limit, state) in
            [(Ok(None), State::Good), (Ok(Some(lease)), State::Wrong), (Err(Error::Closed), State::Unknown)]
        {
            assert_eq!(held(&limit, lease).state, state, "{limit:?}");
        }
        assert_eq!(check(&queues(1_000), "elsewhere", lease).state, State::Unknown);
        assert_eq!(check(&Err("401".into()), "ns", lease).state, State::Unknown);
    }
}
