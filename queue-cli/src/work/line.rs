//! Lines of text that somebody else wrote: how long they may be.

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
}
