//! Standard error: what is said beside the output. Whoever closed it does not want to hear it, and it is no reason to end.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use crate::escape;

/// For a terminal: to the beginning of the line, and nothing is left on it.
pub(crate) const CLEAR: &str = "\r\x1b[K";

/// Passes on a line of somebody else's to what is no terminal.
pub(crate) fn unescaped(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Says a line, or several, over what is shown of the progress.
pub(crate) fn line(text: impl Display) {
    let mut out = std::io::stderr().lock();
    let clear = if out.is_terminal() { CLEAR } else { "" };
    let _ = writeln!(out, "{clear}{}", escape::lines(&text.to_string()));
}
