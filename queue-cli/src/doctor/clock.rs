//! Whether the server's clock and this machine's agree: publish times and what is due by the clock on the wall depend on it.

use chrono::TimeDelta;

use super::finding::Finding;

const CHECK: &str = "clock";
const MOST: TimeDelta = TimeDelta::seconds(2);

pub(super) fn check(ahead: &Result<TimeDelta, String>) -> Finding {
    let ahead = match ahead {
        Ok(ahead) => *ahead,
        Err(why) => return Finding::unknown(CHECK, why),
    };
    let direction = if ahead < TimeDelta::zero() { "behind" } else { "ahead of" };
    let found = format!("the server is {} ms {direction} this machine", ahead.num_milliseconds().abs());
    match ahead.abs() <= MOST {
        true => Finding::good(CHECK, found),
        false => Finding::wrong(CHECK, found, "set both clocks by the same source, as NTP"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn clocks_that_differ_are_wrong() {
        assert_eq!(check(&Ok(TimeDelta::milliseconds(-40))).state, State::Good);
        let behind = check(&Ok(TimeDelta::seconds(-3)));
        assert_eq!(
            (behind.state, behind.found.as_str()),
            (State::Wrong, "the server is 3000 ms behind this machine")
        );
        assert_eq!(check(&Ok(TimeDelta::hours(1))).state, State::Wrong);
        assert_eq!(check(&Err("NOPERM".into())).state, State::Unknown);
    }
}
