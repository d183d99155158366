//! Whether somebody is there who moves delayed messages when they are due.

use polyqueue_rabbitmq::Delays;

use super::finding::Finding;

const CHECK: &str = "delays";

pub(super) fn check(delays: &Result<Delays, String>) -> Finding {
    match delays {
        Ok(delays) if delays.is_moved => Finding::good(CHECK, "a client moves what is due"),
        Ok(delays) if delays.waiting == 0 => Finding::good(CHECK, "nothing waits"),
        Ok(delays) => Finding::wrong(
            CHECK,
            format!(
                "{} delayed messages wait, and no client is connected that moves what is due",
                delays.waiting
            ),
            "start a worker, or anything else that consumes or delays in this virtual host",
        ),
        Err(why) => Finding::unseen(CHECK, why),
    }
}
