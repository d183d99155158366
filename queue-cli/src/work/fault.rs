//! What it means when a command did not succeed: whether it is the message's fault or nobody's who knows the message.

use std::io::{Error, ErrorKind};
use std::process::ExitStatus;

use polyqueue::Failure;

/// The exit code that means "never again": EX_DATAERR of sysexits.
const REJECT: i32 = 65;
/// The shell's exit codes for a command that is not executable, or whose interpreter is not there, and for one not found.
const NOT_RUN: [i32; 2] = [126, 127];
/// What the shell says of a command whose arguments and environment, so its message's envelope, are too large.
const TOO_LARGE: &str = "Argument list too long";

/// Why a command did not succeed.
#[derive(Debug, PartialEq)]
pub(crate) enum Fault {
    /// It ran, and did not manage this message.
    Failed(Failure),
    /// It could not run, whatever the message.
    CannotRun(String),
}

impl Fault {
    pub(crate) fn of_spawn(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::ArgumentListTooLong => {
                Self::Failed(format!("its envelope is too large: {error}").into())
            }
            _ => Self::CannotRun(format!("sh: {error}")),
        }
    }

    /// Of a command that ended with `status` and said `last_line`; `None` when it succeeded.
    pub(crate) fn of_exit(status: ExitStatus, last_line: String) -> Option<Self> {
        if status.success() {
            return None;
        }
        if could_not_run(status, &last_line) {
            return Some(Self::CannotRun(format!("{status}: {last_line}").trim_end_matches(": ").to_owned()));
        }
        let error = if last_line.is_empty() { status.to_string() } else { last_line };
        Some(Self::Failed(match status.code() {
            Some(REJECT) => Failure::fatal(error),
            _ => error.into(),
        }))
    }
}

fn could_not_run(status: ExitStatus, last_line: &str) -> bool {
    let named = status.code().is_some_and(|code| NOT_RUN.contains(&code)) && !last_line.ends_with(TOO_LARGE);
    named || is_failed_fork(last_line)
}

/// A shell that cannot fork has no exit code of its own for it.
fn is_failed_fork(last_line: &str) -> bool {
    last_line.starts_with("sh: ") && (last_line.ends_with(": Cannot fork") || last_line.contains(": fork: "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn ended(code: i32, last_line: &str) -> Option<Fault> {
        Fault::of_exit(ExitStatus::from_raw(code << 8), last_line.into())
    }

    #[test]
    fn a_worker_that_cannot_work_blames_no_message() {
        for (code, last_line) in [
            (126, "sh: 1: /etc: Permission denied"),
            (127, ""),
            (127, "sh: 1: think: not found"),
            (2, "sh: 1: Cannot fork"),
            (254, "sh: fork: retry: Resource temporarily unavailable"),
        ] {
            let fault = ended(code, last_line);
            assert!(matches!(&fault, Some(Fault::CannotRun(why)) if why.contains(last_line)), "{fault:?}");
        }
        for kind in [ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::WouldBlock] {
            assert!(matches!(Fault::of_spawn(&kind.into()), Fault::CannotRun(_)), "{kind}");
        }
    }

    #[test]
    fn what_a_message_is_to_blame_for_counts() {
        assert_eq!(ended(0, "chatter"), None);
        assert_eq!(ended(65, "no"), Some(Fault::Failed(Failure::fatal("no"))));
        assert_eq!(ended(1, "cannot fork a knife"), Some(Fault::Failed("cannot fork a knife".into())));
        assert_eq!(ended(7, ""), Some(Fault::Failed("exit status: 7".into())));
        let too_large = ended(126, "sh: 1: think: Argument list too long");
        assert!(matches!(too_large, Some(Fault::Failed(_))), "{too_large:?}");
        assert!(matches!(Fault::of_spawn(&ErrorKind::ArgumentListTooLong.into()), Fault::Failed(_)));
    }
}
