//! Whether RabbitMQ takes messages at all.

use super::finding::Finding;

const CHECK: &str = "alarms";

pub(super) fn check(alarms: &Result<Vec<String>, String>) -> Finding {
    match alarms {
        Ok(none) if none.is_empty() => Finding::good(CHECK, "none"),
        Ok(some) => Finding::wrong(
            CHECK,
            format!("raised: {}: nobody can publish", some.join(", ")),
            "free memory or disk on that node, or raise vm_memory_high_watermark or lower disk_free_limit",
        ),
        Err(why) => Finding::unseen(CHECK, why),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn an_alarm_is_wrong() {
        assert_eq!(check(&Ok(vec![])).state, State::Good);
        let raised = check(&Ok(vec!["memory on rabbit@a".into()]));
        assert_eq!(raised.state, State::Wrong);
        assert!(raised.found.contains("memory on rabbit@a"));
        assert_eq!(check(&Err("403".into())).state, State::Unknown);
    }
}
