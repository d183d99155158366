//! Whether the server is new enough.

use super::finding::Finding;

const CHECK: &str = "version";

/// Redis, Valkey and the like.
pub(super) fn redis(version: &Result<String, String>) -> Finding {
    check(version, (7, 0), "use a server of version 7.0 or later")
}

pub(super) fn rabbitmq(version: &Result<String, String>) -> Finding {
    check(version, (3, 10), "use RabbitMQ 3.10 or later")
}

fn check(version: &Result<String, String>, oldest: (u32, u32), next: &'static str) -> Finding {
    let version = match version {
        Ok(version) => version,
        Err(why) => return Finding::unknown(CHECK, why),
    };
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let release = numbers.next().flatten().map(|major| (major, numbers.next().flatten().unwrap_or(0)));
    match release.is_some_and(|release| release >= oldest) {
        true => Finding::good(CHECK, version),
        false => Finding::wrong(CHECK, version, next),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_wrong() {
        for (version, state) in [
            (Ok("7.0.15"), State::Good),
            (Ok("10.1"), State::Good),
            (Ok("6.2.14"), State::Wrong),
            (Ok("unstable"), State::Wrong),
            (Err("NOPERM"), State::Unknown),
        ] {
            assert_eq!(redis(&version.map(str::to_owned).map_err(str::to_owned)).state, state, "{version:?}");
        }
        for (version, state) in [("3.10.8", State::Good), ("4.0.1", State::Good), ("3.9.29", State::Wrong)] {
            assert_eq!(rabbitmq(&Ok(version.into())).state, state, "{version}");
        }
    }
}
