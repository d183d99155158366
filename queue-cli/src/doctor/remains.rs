//! Whether something is left of how messages were delayed before.

use super::finding::Finding;

const CHECK: &str = "remains";
/// How many are named.
const NAMED: usize = 5;

/// RabbitMQ: what is there of the cascade of queues that delayed messages once.
pub(super) fn check(found: &Result<Vec<String>, String>) -> Finding {
    match found {
        Ok(none) if none.is_empty() => Finding::good(CHECK, "none"),
        Ok(some) => {
            let named = some.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = some.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Finding::wrong(
                CHECK,
                format!("nobody uses them any more: {named}{more}"),
                "delete these queues and exchanges when they are empty; while polyqueue.due is of another kind no queue can be declared",
            )
        }
        Err(why) => Finding::unseen(CHECK, why),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn what_is_left_is_named() {
        assert_eq!(check(&Ok(Vec::new())).state, State::Good);
        let some = check(&Ok((0..7).map(|n| format!("q{n}")).collect()));
        assert_eq!(some.state, State::Wrong);
        assert!(some.found.ends_with("q4 and 2 more"), "{}", some.found);
        assert_eq!(check(&Err("denied".into())).state, State::Unknown);
    }
}
