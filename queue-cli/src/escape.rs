//! Text of strangers for a terminal: what would move its cursor, colour it or turn the direction of writing is written out.

use std::borrow::Cow;

/// The text on one line, with control characters as `\u{1b}` and `\n`.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, steers)
}

/// The same for a text that may have several lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && steers(c))
}

fn escaped(text: &str, hides: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hides) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match hides(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Control characters (C0, delete, C1), separators of lines and paragraphs, marks, embeddings, overrides and isolates of direction.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        for (text, shown) in [
            ("\x1b[2J\x1b]0;title\x07", r"\u{1b}[2J\u{1b}]0;title\u{7}"),
            ("a\r\nb\tc\0", r"a\r\nb\tc\u{0}"),
            ("\u{9b}31m\u{7f}", r"\u{9b}31m\u{7f}"),
            ("\u{202e}gnp.exe\u{2066}", r"\u{202e}gnp.exe\u{2066}"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("one\ntwo\x1b"), "one\ntwo\\u{1b}");
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["", "déjà vu", "消息", "a \\ b", "👩‍👩‍👧"] {
            assert!(matches!(line(text), Cow::Borrowed(shown) if shown == text));
        }
    }
}
