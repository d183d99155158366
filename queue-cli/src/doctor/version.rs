//! Whether the server is new enough.

use super::finding::Finding;

const CHECK: &str = "version";
const OLDEST: u32 = 7;

pub(super) fn check(version: &Result<String, String>) -> Finding {
    let version = match version {
        Ok(version) => version,
        Err(why) => return Finding::unknown(CHECK, why),
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major.is_some_and(|major| major >= OLDEST) {
        true => Finding::good(CHECK, version),
        false => Finding::wrong(CHECK, version, "use a server of version 7.0 or later"),
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
            assert_eq!(check(&version.map(str::to_owned).map_err(str::to_owned)).state, state, "{version:?}");
        }
    }
}
