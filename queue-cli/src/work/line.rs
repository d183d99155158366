//! Lines of text that somebody else wrote: how long they may be, and how a terminal is shown them.

use std::borrow::Cow;
use std::io::Write;

/// The longest line, in bytes, that is passed on whole.
const LONGEST: usize = 64 * 1024;

/// Bytes on their way to lines.
#[derive(Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
    /// How many bytes of the line were left out.
    cut: usize,
}

impl Lines {
    /// The lines that end in these bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        let unfinished = parts.next_back().unwrap_or_default();
        let mut ended = Vec::new();
        for part in parts {
            self.add(part);
            ended.push(self.end());
        }
        self.add(unfinished);
        ended
    }

    /// What was begun and not ended by a line feed.
    pub(crate) fn rest(mut self) -> Option<String> {
        (!self.begun.is_empty()).then(|| self.end())
    }

    fn add(&mut self, part: &[u8]) {
        let room = part.len().min(LONGEST - self.begun.len());
        self.begun.extend_from_slice(&part[..room]);
        self.cut += part.len() - room;
    }

    fn end(&mut self) -> String {
        let mut line = String::from_utf8_lossy(&self.begun).into_owned();
        if self.cut > 0 {
            line.push_str(&format!(" [{} more bytes of this line left out]", self.cut));
        }
        *self = Self::default();
        line
    }
}

/// The line with its control characters escaped, where they would command a terminal.
pub(crate) fn shown(line: &str, for_a_terminal: bool) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && c != '\t';
    if !for_a_terminal || !line.contains(commands) {
        return Cow::Borrowed(line);
    }
    let escape = |c: char| if commands(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(line.chars().map(escape).collect())
}

/// Prints a line on standard error. One that nobody reads any more is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_end_whatever_the_chunks() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"one\ntw"), ["one"]);
        assert_eq!(lines.take(b"o\n\nthree"), ["two", ""]);
        assert_eq!(lines.rest().as_deref(), Some("three"));
        assert_eq!(Lines::default().rest(), None);
    }

    #[test]
    fn a_long_line_is_cut_and_that_is_said() {
        let mut lines = Lines::default();
        for _ in 0..3 {
            assert!(lines.take(&vec![b'x'; LONGEST]).is_empty());
        }
        assert!(lines.begun.len() <= LONGEST, "no more than a line is held");
        let ended = lines.take(b"\nnext\n");
        assert!(ended[0].starts_with("xxx") && ended[0].len() < LONGEST + 100);
        assert!(ended[0].ends_with(" [131072 more bytes of this line left out]"), "{}", &ended[0][LONGEST..]);
        assert_eq!(ended[1], "next");
    }

    #[test]
    fn only_a_terminal_is_spared_control_characters() {
        let line = "\x1b]0;owned\x07 \u{9b}2J\té\r";
        assert_eq!(shown(line, true), "\\u{1b}]0;owned\\u{7} \\u{9b}2J\té\\r");
        assert_eq!(shown(line, false), line);
        assert_eq!(shown("plain é", true), "plain é");
    }
}
