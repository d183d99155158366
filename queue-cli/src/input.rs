//! Lines of an input that others wrote: a byte-order mark is skipped, and no line is held that is longer than one may be.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Whole(Vec<u8>),
    /// It was read over.
    TooLong {
        limit: usize,
    },
}

pub(crate) struct Input<R> {
    from: BufReader<R>,
    limit: usize,
    number: u64,
    /// What was read of the next line, kept here so that a dropped call loses nothing.
    line: Vec<u8>,
    /// Whether the rest of the line is read over.
    skipping: bool,
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub(crate) fn new(from: R, limit: usize) -> Self {
        Self { from: BufReader::new(from), limit, number: 0, line: Vec::new(), skipping: false }
    }

    /// The next line and its number, the first is 1; `None` at the end. Dropping the call loses nothing.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<(u64, Line)>> {
        loop {
            let read = self.from.fill_buf().await?;
            let (part, used, ends) = match read.iter().position(|byte| *byte == b'\n') {
                Some(at) => (&read[..at], at + 1, true),
                None => (read, read.len(), read.is_empty()),
            };
            let at_end = used == 0;
            if self.line.len() + part.len() > self.limit {
                self.skipping = true;
                self.line = Vec::new();
            }
            if !self.skipping {
                self.line.extend_from_slice(part);
            }
            self.from.consume(used);
            if at_end && self.line.is_empty() && !self.skipping {
                return Ok(None);
            }
            if ends {
                return Ok(Some(self.take()));
            }
        }
    }

    fn take(&mut self) -> (u64, Line) {
        self.number += 1;
        let mut line = std::mem::take(&mut self.line);
        if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        match std::mem::take(&mut self.skipping) {
            true => (self.number, Line::TooLong { limit: self.limit }),
            false => (self.number, Line::Whole(line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], limit: usize) -> Vec<(u64, Line)> {
        let (mut input, mut found) = (Input::new(input, limit), Vec::new());
        while let Some(line) = input.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    fn whole(number: u64, text: &str) -> (u64, Line) {
        (number, Line::Whole(text.into()))
    }

    #[tokio::test]
    async fn lines_are_numbered_and_the_last_needs_no_end() {
        assert_eq!(
            lines(b"a\n\nb\r\nc", 9).await,
            [whole(1, "a"), whole(2, ""), whole(3, "b\r"), whole(4, "c")]
        );
        assert_eq!(lines(b"a\n", 9).await, [whole(1, "a")]);
        assert_eq!(lines(b"", 9).await, []);
    }

    #[tokio::test]
    async fn a_byte_order_mark_is_skipped_at_the_beginning_only() {
        let marked = "\u{feff}a\n\u{feff}b";
        assert_eq!(lines(marked.as_bytes(), 9).await, [whole(1, "a"), whole(2, "\u{feff}b")]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_named_and_the_next_is_read() {
        let long = [b"a\n".to_vec(), vec![b'x'; 100_000], b"\nb\n".to_vec(), vec![b'y'; 11]].concat();
        let too_long = Line::TooLong { limit: 10 };
        assert_eq!(
            lines(&long, 10).await,
            [whole(1, "a"), (2, Line::TooLong { limit: 10 }), whole(3, "b"), (4, too_long)]
        );
        assert_eq!(lines(b"0123456789\n", 10).await, [whole(1, "0123456789")], "as long as it may be");
    }
}
