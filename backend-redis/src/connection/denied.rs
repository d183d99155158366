//! What the user may not do: a script that is refused in its middle does not say by which command.

use std::collections::BTreeSet;

use polyqueue::Error;

use crate::address::NAME;
use crate::scripts;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// What an error says that names the command.
const NAMES_IT: &str = "to run the '";

/// Whether this says that something is denied, and not what.
pub(crate) fn is_unnamed(error: &Error) -> bool {
    matches!(error, Error::Denied { what, .. } if what.contains("script") && !what.contains(NAMES_IT))
}

/// Asks which commands the user may not run on a key.
pub(crate) fn question(key: &str) -> Request {
    Request::on_keys(&scripts::RIGHTS, &[], &[key])
}

/// The answer.
pub(crate) fn commands(answer: Reply) -> BTreeSet<String> {
    answer.into_list().unwrap_or_default().into_iter().filter_map(Reply::into_text).collect()
}

/// The same error, naming them.
pub(crate) fn named(error: Error, commands: BTreeSet<String>) -> Error {
    match error {
        Error::Denied { what, .. } if !commands.is_empty() => {
            let commands = commands.into_iter().collect::<Vec<_>>().join(", ");
            Error::denied(NAME, format!("{what}: the user may not run {commands}"))
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_no_command_is_asked_for() {
        let denied = |text: &str| Error::denied(NAME, text);
        assert!(is_unnamed(&denied(
            "ERR The user executing the script can't run this command or subcommand"
        )));
        assert!(!is_unnamed(&denied("NOPERM this user has no permissions to run the 'evalsha' command")));
        assert!(!is_unnamed(&denied("WRONGPASS invalid username-password pair")));
        assert!(!is_unnamed(&Error::Closed));
        let answer = Reply::List(vec![Reply::Bytes("XADD".into()), Reply::Bytes("XADD".into())]);
        let named = named(denied("no"), commands(answer)).to_string();
        assert!(named.ends_with("no: the user may not run XADD"), "{named}");
    }
}
