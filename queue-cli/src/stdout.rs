//! Standard output: each line that a command prints goes through here, so that it ends, and does not panic, when nobody reads on.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::exit::{Exit, Result};

/// Prints a line, or a table.
pub(crate) fn line(text: impl Display) -> Result<()> {
    lines([text])
}

/// Prints lines at once.
pub(crate) fn lines<T: Display>(texts: impl IntoIterator<Item = T>) -> Result<()> {
    write_lines(&mut std::io::stdout().lock(), texts)
}

fn write_lines<T: Display>(out: &mut impl Write, texts: impl IntoIterator<Item = T>) -> Result<()> {
    let text: String = texts.into_iter().map(|text| format!("{text}\n")).collect();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Exit::NobodyReads,
        _ => Exit::Failed(format!("standard output: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_has_gone_is_no_failure_and_a_full_disk_is() {
        let gone = write_lines(&mut Refusing(ErrorKind::BrokenPipe), ["a"]).unwrap_err();
        assert!(matches!(gone, Exit::NobodyReads), "{gone:?}");
        let Exit::Failed(said) = write_lines(&mut Refusing(ErrorKind::StorageFull), ["a"]).unwrap_err()
        else {
            panic!("a full disk is a failure")
        };
        assert!(said.contains("standard output"), "{said}");
    }
}
