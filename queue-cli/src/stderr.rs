//! Standard error: what is said beside the output. Whoever closed it does not want to hear it, and it is no reason to end.

use std::fmt::Display;
use std::io::Write;

use crate::escape;

/// Says a line, or several.
pub(crate) fn line(text: impl Display) {
    let text = text.to_string();
    let _ = writeln!(std::io::stderr().lock(), "{}", escape::lines(&text));
}
