//! Whether policies of an operator change what our queues and exchanges promise.

use super::finding::Finding;
use super::management::{Answer, Named};

const CHECK: &str = "policies";
/// What drops, moves or refuses messages, or deletes the queue.
const HARMFUL: [&str; 7] = [
    "message-ttl",
    "max-length",
    "max-length-bytes",
    "expires",
    "dead-letter-exchange",
    "overflow",
    "alternate-exchange",
];
/// As many are named.
const NAMED: usize = 3;

pub(super) fn check(queues: &Answer<Vec<Named>>, exchanges: &Answer<Vec<Named>>, namespace: &str) -> Finding {
    let (queues, exchanges) = match (queues, exchanges) {
        (Ok(queues), Ok(exchanges)) => (queues, exchanges),
        (Err(why), _) | (_, Err(why)) => return Finding::unseen(CHECK, why),
    };
    let ours = queues.iter().chain(exchanges).filter(|named| is_ours(&named.name, namespace));
    let (mut count, mut harmed) = (0, Vec::new());
    for named in ours {
        count += 1;
        let rules: Vec<String> =
            named.rules().keys().filter(|key| HARMFUL.contains(&key.as_str())).cloned().collect();
        if !rules.is_empty() {
            let policy = named.policy.as_deref().or(named.operator_policy.as_deref()).unwrap_or("?");
            harmed.push(format!("{} has {} by policy {policy:?}", named.name, rules.join(", ")));
        }
    }
    if harmed.is_empty() {
        return Finding::good(CHECK, format!("none of {count} queues and exchanges is changed by one"));
    }
    let more = harmed.len().saturating_sub(NAMED);
    harmed.truncate(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let next = "let the policy's pattern leave out what begins with the namespace and with polyqueue.";
    Finding::wrong(CHECK, format!("{}{more}", harmed.join("; ")), next)
}

/// A namespace's own, and what all namespaces of a virtual host share.
pub(super) fn is_ours(name: &str, namespace: &str) -> bool {
    let of = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    of(namespace) || of("polyqueue")
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn named(json: &str) -> Answer<Vec<Named>> {
        Ok(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_policy_that_drops_what_is_ours_is_wrong() {
        let quiet = named(r#"[{"name":"shop.q.mail","effective_policy_definition":[]},{"name":"other"}]"#);
        let none = named("[]");
        assert_eq!(check(&quiet, &none, "shop").state, State::Good);
        let harmed = named(
            r#"[{"name":"shop.q.mail","policy":"short","effective_policy_definition":{"message-ttl":1000,"ha-mode":"all"}}]"#,
        );
        let wrong = check(&harmed, &none, "shop");
        assert_eq!(wrong.state, State::Wrong);
        assert_eq!(wrong.found, r#"shop.q.mail has message-ttl by policy "short""#);
        assert_eq!(check(&none, &harmed, "shop").state, State::Wrong);
        assert_eq!(check(&harmed, &none, "shopping").state, State::Good, "somebody else's");
        assert_eq!(check(&Err("401".into()), &none, "shop").state, State::Unknown);
    }
}
