//! Whether what is stored outlives the server's process.

use super::finding::Finding;

const CHECK: &str = "persistence";

pub(super) fn check(append_only: &Result<bool, String>, append_fsync: &Result<String, String>) -> Finding {
    let next = "set appendonly yes and appendfsync everysec or always";
    match (append_only, append_fsync) {
        (Ok(false), _) => Finding::wrong(CHECK, "no append-only file: a restart loses messages", next),
        (Ok(true), Ok(fsync)) if fsync == "no" => Finding::wrong(
            CHECK,
            "an append-only file that is never forced to the disk (appendfsync no)",
            next,
        ),
        (Ok(true), Ok(fsync)) => Finding::good(CHECK, format!("append-only file, appendfsync {fsync}")),
        (Err(why), _) | (Ok(true), Err(why)) => Finding::unknown(CHECK, why),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn what_a_restart_loses_is_wrong() {
        for (append_only, fsync, state) in [
            (Ok(true), Ok("everysec"), State::Good),
            (Ok(true), Ok("no"), State::Wrong),
            (Ok(false), Err("NOPERM"), State::Wrong),
            (Ok(true), Err("NOPERM"), State::Unknown),
            (Err("NOPERM"), Ok("always"), State::Unknown),
        ] {
            let fsync = fsync.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(check(&append_only.map_err(str::to_owned), &fsync).state, state);
        }
    }
}
