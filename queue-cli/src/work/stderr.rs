//! What a command prints on standard error, passed on line by line.

use std::io::IsTerminal;

use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;

use crate::stderr;

use super::line::Lines;

/// A read that is dropped goes on at the next call, so that nothing is lost when the wait for the end is given up.
pub(crate) struct Stderr {
    stream: Option<ChildStderr>,
    lines: Lines,
    last_line: String,
    for_a_terminal: bool,
}

impl Stderr {
    pub(crate) fn of(stream: Option<ChildStderr>) -> Self {
        let for_a_terminal = std::io::stderr().is_terminal();
        Self { stream, lines: Lines::default(), last_line: String::new(), for_a_terminal }
    }

    /// Until its end, or a fault: what could be read before it is what the command said.
    pub(crate) async fn read(&mut self) {
        let mut chunk = [0; 8192];
        loop {
            let Some(stream) = &mut self.stream else { return };
            let Ok(read @ 1..) = stream.read(&mut chunk).await else { return };
            for line in self.lines.take(&chunk[..read]) {
                self.pass_on(&line);
            }
        }
    }

    /// Its last line that is not blank.
    pub(crate) fn last_line(mut self) -> String {
        if let Some(line) = std::mem::take(&mut self.lines).rest() {
            self.pass_on(&line);
        }
        self.last_line
    }

    fn pass_on(&mut self, line: &str) {
        match self.for_a_terminal {
            true => stderr::line(line),
            false => stderr::unescaped(line),
        }
        if !line.trim().is_empty() {
            self.last_line = line.trim().to_owned();
        }
    }
}
