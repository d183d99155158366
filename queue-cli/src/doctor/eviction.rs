//! Whether the server keeps what it has when its memory is full.

use super::finding::Finding;

const CHECK: &str = "eviction";

pub(super) fn check(policy: &Result<String, String>) -> Finding {
    match policy {
        Ok(policy) if policy == "noeviction" => Finding::good(CHECK, "noeviction"),
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
        assert_eq!(check(&Ok("allkeys-lru".into())).state, State::Wrong);
        assert_eq!(check(&Err("NOPERM".into())).state, State::Unknown);
    }
}
