//! What the client library cannot read is made readable on its way in, byte for byte, so that no message ends a connection.
//!
//! The library takes a short string that is not UTF-8 for a broken protocol, and reads tables within tables until its stack is at an
//! end. Both are legal for the broker, which passes on what any client has published. So in the frames that say something of a message
//! each byte of a short string that is no UTF-8 becomes [`SUBSTITUTE`], and a table that lies too deep becomes a text. Lengths stay.

use crate::wire::properties::SUBSTITUTE;

/// Frame types.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// Type, channel and size.
const PREFIX: usize = 7;
/// The class `basic`, and its methods that bring a message.
const BASIC: [u8; 2] = [0, 60];
const DELIVER: [u8; 2] = [0, 60];
const GET_OK: [u8; 2] = [0, 71];
/// Tables and arrays within one another; whatever we or the broker write needs three.
const DEEPEST: usize = 32;
/// A content header that is longer is not looked at: the broker sends none.
const LONGEST: usize = 1 << 20;

/// Looks at the frames of one connection as they arrive.
#[derive(Default)]
pub(crate) struct Screen {
    /// The begin of a frame that has not come as far as it must be known.
    held: Vec<u8>,
    /// How many bytes of the frame before are still to come.
    passing: usize,
}

impl Screen {
    /// Takes what arrived, and appends what may be read.
    pub(crate) fn take(&mut self, mut arrived: &[u8], readable: &mut Vec<u8>) {
        loop {
            let pass = self.passing.min(arrived.len());
            readable.extend_from_slice(&arrived[..pass]);
            arrived = &arrived[pass..];
            self.passing -= pass;
            if arrived.is_empty() {
                return;
            }
            let wanted = self.wanted();
            let more = wanted.saturating_sub(self.held.len()).min(arrived.len());
            self.held.extend_from_slice(&arrived[..more]);
            arrived = &arrived[more..];
            if self.held.len() < self.wanted() {
                continue;
            }
            let size = frame_size(&self.held).unwrap_or_default();
            mend(&mut self.held);
            self.passing = (size + 1).saturating_sub(self.held.len() - PREFIX);
            readable.append(&mut self.held);
        }
    }

    /// How much of the next frame must be known before any of it may be read.
    fn wanted(&self) -> usize {
        match (self.held.first(), frame_size(&self.held)) {
            (Some(&(METHOD | HEADER)), Some(size)) if size <= LONGEST => PREFIX + size,
            _ => PREFIX,
        }
    }
}

fn frame_size(frame: &[u8]) -> Option<usize> {
    let size = frame.get(3..PREFIX)?.try_into().ok()?;
    Some(u32::from_be_bytes(size) as usize)
}

/// Mends a frame; what makes no sense stays as it is.
fn mend(frame: &mut [u8]) -> Option<()> {
    let kind = *frame.first()?;
    let mut payload = Cursor { bytes: frame.get_mut(PREFIX..)?, at: 0 };
    match kind {
        HEADER => properties(&mut payload),
        METHOD => method(&mut payload),
        _ => None,
    }
}

/// Where a message comes from.
fn method(payload: &mut Cursor<'_>) -> Option<()> {
    if payload.take(2)? != BASIC {
        return None;
    }
    let method = <[u8; 2]>::try_from(payload.take(2)?).ok()?;
    match method {
        DELIVER => payload.short()?,
        GET_OK => {}
        _ => return None,
    }
    payload.take(9)?;
    payload.short()?;
    payload.short()
}

/// A message's properties, in the order of their flags.
fn properties(payload: &mut Cursor<'_>) -> Option<()> {
    payload.take(12)?;
    let flags = u16::from_be_bytes(payload.take(2)?.try_into().ok()?);
    for (nth, kind) in b"ssFoosssstssss".iter().enumerate() {
        if flags & (0x8000 >> nth) == 0 {
            continue;
        }
        match kind {
            b's' => payload.short()?,
            b'F' => table(payload)?,
            b'o' => drop(payload.take(1)?),
            _ => drop(payload.take(8)?),
        }
    }
    Some(())
}

/// A table and all within, by a stack of our own: where each ends, and whether its entries have keys.
fn table(payload: &mut Cursor<'_>) -> Option<()> {
    let mut open = vec![(payload.end()?, true)];
    while let Some(&(end, has_keys)) = open.last() {
        if payload.at >= end {
            open.pop();
            continue;
        }
        if has_keys {
            payload.short()?;
        }
        let kind = payload.byte()?;
        match *kind {
            b'F' | b'A' if open.len() >= DEEPEST => {
                *kind = b'S';
                payload.skip_long()?;
            }
            b'F' => open.push((payload.end()?, true)),
            b'A' => open.push((payload.end()?, false)),
            b'S' | b'x' => payload.skip_long()?,
            b'V' => {}
            b't' | b'b' | b'B' => drop(payload.take(1)?),
            b's' | b'u' | b'U' => drop(payload.take(2)?),
            b'I' | b'i' | b'f' => drop(payload.take(4)?),
            b'D' => drop(payload.take(5)?),
            b'L' | b'l' | b'd' | b'T' => drop(payload.take(8)?),
            _ => return None,
        }
    }
    Some(())
}

struct Cursor<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, count: usize) -> Option<&mut [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get_mut(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<&mut u8> {
        self.take(1)?.first_mut()
    }

    fn length(&mut self) -> Option<usize> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?) as usize)
    }

    /// Where what begins here with its length ends.
    fn end(&mut self) -> Option<usize> {
        let length = self.length()?;
        self.at.checked_add(length).filter(|end| *end <= self.bytes.len())
    }

    fn skip_long(&mut self) -> Option<()> {
        let length = self.length()?;
        self.take(length).map(drop)
    }

    /// Mends a short string.
    fn short(&mut self) -> Option<()> {
        let length = usize::from(*self.byte()?);
        let mut text = self.take(length)?;
        while let Err(error) = std::str::from_utf8(text) {
            let (good, rest) = (error.valid_up_to(), text.len());
            let bad = error.error_len().unwrap_or(rest - good);
            text = &mut text[good..];
            text[..bad].fill(SUBSTITUTE);
            text = &mut text[bad..];
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(text: &[u8]) -> Vec<u8> {
        [&[text.len() as u8], text].concat()
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[kind, 0, 1][..], &long(payload), &[0xce]].concat()
    }

    /// A content header with headers, a correlation id and a type.
    fn content(table: &[u8], correlation: &[u8], kind: &[u8]) -> Vec<u8> {
        let flags = (0x8000_u16 >> 2) | (0x8000 >> 5) | (0x8000 >> 10);
        let before = [&BASIC[..], &[0; 10], &flags.to_be_bytes()].concat();
        frame(HEADER, &[before, long(table), short(correlation), short(kind)].concat())
    }

    fn entry(key: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
        [short(key), vec![kind], value.to_vec()].concat()
    }

    fn screened(bytes: &[u8], at_once: usize) -> Vec<u8> {
        let (mut screen, mut readable) = (Screen::default(), Vec::new());
        for part in bytes.chunks(at_once) {
            screen.take(part, &mut readable);
        }
        readable
    }

    #[test]
    fn what_can_be_read_stays_as_it_is_however_it_arrives() {
        let headers = [entry("ä".as_bytes(), b'S', &long(b"\xff")), entry(b"n", b'l', &[0xff; 8])].concat();
        let deliver = [&BASIC[..], &DELIVER, &short(b"tag"), &[0; 9], &short(b""), &short(b"q")].concat();
        let frames = [
            frame(METHOD, &deliver),
            content(&headers, b"id", "größe".as_bytes()),
            frame(3, b"\xff\xfe body"),
            frame(8, b""),
        ]
        .concat();
        for at_once in [1, 2, 7, 50, frames.len()] {
            assert_eq!(screened(&frames, at_once), frames, "{at_once}");
        }
    }

    #[test]
    fn what_is_no_text_is_substituted_and_nothing_else() {
        let poison = content(&entry(b"k\xffy", b'S', &long(b"\xff")), b"\xc3", b"a\xe2\x82z");
        let mended = content(&entry(b"k\x1ay", b'S', &long(b"\xff")), b"\x1a", b"a\x1a\x1az");
        for at_once in [1, 9, poison.len()] {
            assert_eq!(screened(&poison, at_once), mended);
        }
        let deliver = |key: &[u8]| {
            frame(METHOD, &[&BASIC[..], &DELIVER, &short(b"tag"), &[0; 9], &short(b""), &short(key)].concat())
        };
        assert_eq!(screened(&deliver(b"\xff.a"), 4), deliver(b"\x1a.a"));
    }

    #[test]
    fn tables_within_tables_end_at_a_depth() {
        let mut nested = entry(b"k", b't', &[1]);
        for _ in 0..15_000 {
            nested = entry(b"k", b'F', &long(&nested));
        }
        let poison = content(&nested, b"", b"");
        let mended = screened(&poison, 1000);
        assert_eq!(mended.len(), poison.len());
        let changed: Vec<(u8, u8)> = poison
            .iter()
            .zip(&mended)
            .filter(|(before, after)| before != after)
            .map(|(b, a)| (*b, *a))
            .collect();
        assert_eq!(changed, [(b'F', b'S')]);
    }

    #[test]
    fn what_makes_no_sense_is_passed_on() {
        for frame in
            [frame(HEADER, b"short"), frame(METHOD, &[0, 60, 0, 60, 200]), content(&[9, 1], b"", b"")]
        {
            assert_eq!(screened(&frame, 3), frame);
        }
    }
}
