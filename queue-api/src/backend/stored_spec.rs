//! What a catalogue says of a queue, which a later version may have written.

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::QueueSpec;

/// The keys of a [`QueueSpec`] as JSON, and what stands below them.
const KEYS: [(&str, &[&str]); 5] = [
    ("name", &[]),
    ("bindings", &[]),
    ("bound", &["max_len", "overflow"]),
    ("dead", &["max_len", "max_age_ms"]),
    ("dedup", &["window_ms", "until"]),
];

/// Reads a specification that a catalogue keeps, and passes over keys that this version does not know, where
/// `QueueSpec::deserialize` refuses what a user may have mistyped. For `#[serde(deserialize_with = …)]`.
///
/// # Errors
/// For all but unknown keys as `QueueSpec::deserialize`.
pub fn stored_spec<'de, D: Deserializer<'de>>(stored: D) -> Result<QueueSpec, D::Error> {
    let mut fields = Map::deserialize(stored)?;
    fields.retain(|key, value| {
        let Some((_, below)) = KEYS.iter().find(|(known, _)| known == key) else { return false };
        if let Value::Object(fields) = value {
            fields.retain(|key, _| below.contains(&key.as_str()));
        }
        true
    });
    QueueSpec::deserialize(Value::Object(fields)).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Dedup, Overflow, Pattern, QueueName};

    fn full() -> QueueSpec {
        QueueSpec::new(QueueName::from_static("q"))
            .bind(Pattern::new("a.#").unwrap())
            .bound(1, Overflow::Block)
            .dead_max_len(2)
            .dead_max_age(Duration::from_secs(3))
            .dedup(Dedup::until_ack(Duration::from_secs(4)))
    }

    fn keys(fields: &Value) -> Vec<&String> {
        fields.as_object().map(|fields| fields.keys().collect()).unwrap_or_default()
    }

    #[test]
    fn every_key_that_is_written_is_known_and_no_other() {
        let json = serde_json::to_value(full()).unwrap();
        let mut known = KEYS;
        known.sort_unstable();
        assert_eq!(keys(&json), known.map(|(key, _)| key));
        for (key, below) in known {
            let mut below = below.to_vec();
            below.sort_unstable();
            assert_eq!(keys(&json[key]), below, "{key}");
        }
    }

    #[test]
    fn what_a_later_version_added_is_passed_over_at_any_depth() {
        let mut json = serde_json::to_value(full()).unwrap();
        for at in ["", "/bound", "/dead", "/dedup"] {
            json.pointer_mut(at).unwrap()["later"] = serde_json::json!({"name": [1]});
        }
        assert!(serde_json::from_value::<QueueSpec>(json.clone()).is_err());
        assert_eq!(stored_spec(json).unwrap(), full());
        for wrong in
            [serde_json::json!({}), serde_json::json!([]), serde_json::json!({"name": "q", "bound": 1})]
        {
            assert!(stored_spec(wrong).is_err());
        }
    }
}
