//! Whether the server keeps what it has when its memory is full.

use super::finding::Finding;

const CHECK: &str = "eviction";
/// Removes only keys with a time to live: none of a message has one, a large reply has.
const SPARES_MESSAGES: &str = "volatile-";

pub(super) fn check(policy: &Result<String, String>) -> Finding {
    match policy {
        Ok(policy) if policy == "noeviction" => Finding::good(CHECK, "noeviction"),
        Ok(policy) if policy.starts_with(SPARES_MESSAGES) => Finding::good(
            CHECK,
            format!("maxmemory-policy {policy} removes no message, but may remove a large reply that waits"),
        ),
        Ok(policy) => Finding::wrong(
            CHECK,
            format!("maxmemory-policy {policy} may remove messages"),
            "set maxmemory-policy noeviction",
        ),
        Err(why) => Finding::unknown(CHECK, why),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_policy_that_removes_messages_is_wrong() {
        assert_eq!(check(&Ok("noeviction".into())).state, State::Good);
        let volatile = check(&Ok("volatile-lru".into()));
        assert_eq!(volatile.state, State::Good, "a handle is opened there");
        assert!(volatile.found.contains("large reply"));
        assert_eq!(check(&Ok("allkeys-lru".into())).state, State::Wrong);
        assert_eq!(check(&Err("NOPERM".into())).state, State::Unknown);
    }
}
