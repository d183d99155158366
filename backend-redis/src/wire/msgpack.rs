//! A list of names and values in one string: a MessagePack array of texts or bytes.

use bytes::{Buf, Bytes};

/// Packs names and values, one after the other.
pub(crate) fn pack<'a>(pairs: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut msgpack = vec![0xdd];
    msgpack.extend((2 * pairs.len() as u32).to_be_bytes());
    for (name, value) in pairs {
        for bytes in [name.as_bytes(), value] {
            // Of all forms the one that takes any length, and bytes that are no text.
            msgpack.push(0xc6);
            msgpack.extend((bytes.len() as u32).to_be_bytes());
            msgpack.extend(bytes);
        }
    }
    msgpack
}

/// Names and values, from any form of array, text and bytes; nothing for anything else.
pub(crate) fn unpack(mut msgpack: Bytes) -> Option<Vec<(Bytes, Bytes)>> {
    let values = match msgpack.try_get_u8().ok()? {
        short @ 0x90..=0x9f => usize::from(short & 0x0f),
        0xdc => usize::from(msgpack.try_get_u16().ok()?),
        0xdd => usize::try_from(msgpack.try_get_u32().ok()?).ok()?,
        _ => return None,
    };
    let mut pairs = Vec::new();
    for _ in 0..values / 2 {
        pairs.push((value(&mut msgpack)?, value(&mut msgpack)?));
    }
    (values % 2 == 0 && msgpack.is_empty()).then_some(pairs)
}

fn value(msgpack: &mut Bytes) -> Option<Bytes> {
    let length = match msgpack.try_get_u8().ok()? {
        short @ 0xa0..=0xbf => usize::from(short & 0x1f),
        0xc4 | 0xd9 => usize::from(msgpack.try_get_u8().ok()?),
        0xc5 | 0xda => usize::from(msgpack.try_get_u16().ok()?),
        0xc6 | 0xdb => usize::try_from(msgpack.try_get_u32().ok()?).ok()?,
        _ => return None,
    };
    (length <= msgpack.len()).then(|| msgpack.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let long = vec![0xff; 70_000];
        let pairs = [("data", &long[..]), ("id", b"x"), ("", b"")];
        let unpacked = unpack(pack(pairs.into_iter()).into()).unwrap();
        assert_eq!(unpacked.len(), 3);
        for ((name, value), (n, v)) in pairs.iter().zip(&unpacked) {
            assert_eq!((name.as_bytes(), *value), (&n[..], &v[..]));
        }
    }

    #[test]
    fn short_forms_are_read_and_nothing_else_is() {
        let short = b"\x92\xa4data\xc4\x02hi";
        assert_eq!(unpack(Bytes::from_static(short)).unwrap(), [("data".into(), "hi".into())]);
        for garbage in
            [&b""[..], b"\x91\xa1x", b"\x92\xa4dat", b"\x92\xa1a\xa1bc", b"\x80", b"\xdd\xff\xff\xff\xff"]
        {
            assert_eq!(unpack(Bytes::copy_from_slice(garbage)), None, "{garbage:?}");
        }
    }
}
