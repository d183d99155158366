//! Users' headers: each by its own name where AMQP allows it, packed into one of ours where not.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, FieldArray, FieldTable};

use super::properties::{OURS, as_text, is_brokers, key, text};

/// The longest key that AMQP clients agree on.
const LONGEST_KEY: usize = 127;

/// Whether a user's header may stand under its own name. Names beginning with `x-` belong to brokers, `CC` and `BCC` make
/// RabbitMQ send copies.
fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= LONGEST_KEY
        && !key.starts_with("x-")
        && !is_brokers(key)
        && !key.chars().any(char::is_control)
}

pub(super) fn write(headers: &BTreeMap<String, String>, into: &mut FieldTable) {
    let mut packed = FieldArray::default();
    for (key, value) in headers {
        if is_plain(key) {
            into.insert(key.as_str().into(), text(value.as_bytes()));
        } else {
            packed.push(text(key.as_bytes()));
            packed.push(text(value.as_bytes()));
        }
    }
    if !packed.as_slice().is_empty() {
        into.insert(key::PACKED.into(), AMQPValue::FieldArray(packed));
    }
}

/// Reads what a user or a foreign client wrote; numbers and truth values become text. What cannot be text is not shown, but
/// kept when the message is published again. `None` when the packed ones are unreadable.
pub(super) fn read<'a>(
    table: impl Iterator<Item = (&'a str, &'a AMQPValue)>,
) -> Option<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    for (key, value) in table {
        if key == key::PACKED {
            unpack(value, &mut headers)?;
        } else if !key.starts_with(OURS)
            && !is_brokers(key)
            && let Some(value) = shown(value)
        {
            headers.insert(key.to_owned(), value);
        }
    }
    Some(headers)
}

fn unpack(value: &AMQPValue, into: &mut BTreeMap<String, String>) -> Option<()> {
    let AMQPValue::FieldArray(packed) = value else { return None };
    let pairs = packed.as_slice().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    for pair in pairs {
        into.insert(as_text(&pair[0])?.to_owned(), as_text(&pair[1])?.to_owned());
    }
    Some(())
}

fn shown(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::Float(value) => Some(value.to_string()),
        AMQPValue::Double(value) => Some(value.to_string()),
        other => as_text(other)
            .map(str::to_owned)
            .or_else(|| super::properties::as_number(other).map(|number| number.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(headers: &BTreeMap<String, String>) -> (FieldTable, BTreeMap<String, String>) {
        let mut table = FieldTable::default();
        write(headers, &mut table);
        let read = read(table.inner().iter().map(|(k, v)| (k.as_str(), v))).unwrap();
        (table, read)
    }

    #[test]
    fn every_key_comes_back_and_none_meets_ours_or_the_brokers() {
        let long = "k".repeat(300);
        let keys =
            ["a", "", "x-death", "x-pq-v", "__", "CC", "BCC", "a.b c", "😀", "שלום", "\n", "x-opt-a", &long];
        let headers: BTreeMap<String, String> =
            keys.iter().map(|key| ((*key).to_owned(), format!("value of {key}\0"))).collect();
        let (table, read) = round(&headers);
        assert_eq!(read, headers);
        for key in table.inner().keys() {
            assert!(is_plain(key.as_str()) || key.as_str() == key::PACKED, "{key}");
        }
    }

    #[test]
    fn the_largest_headers_fit_one_frame() {
        let headers: BTreeMap<String, String> =
            (0..256).map(|n| (format!("x-{n:03}"), "\0".repeat(64 * 1024 / 256 - 5))).collect();
        let (table, read) = round(&headers);
        assert_eq!(read, headers);
        let AMQPValue::FieldArray(packed) = &table.inner()[key::PACKED] else { panic!("not packed") };
        let bytes: usize =
            packed.as_slice().iter().map(|value| 5 + super::as_text(value).map_or(0, str::len)).sum();
        assert!(bytes < 131_072 - 16 * 1024, "{bytes}");
    }

    #[test]
    fn half_a_pair_is_unreadable() {
        let mut table = FieldTable::default();
        let mut packed = FieldArray::default();
        packed.push(text("alone"));
        table.insert(key::PACKED.into(), AMQPValue::FieldArray(packed));
        assert_eq!(read(table.inner().iter().map(|(k, v)| (k.as_str(), v))), None);
    }
}
