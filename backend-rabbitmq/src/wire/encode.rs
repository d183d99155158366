//! A message as properties and headers.

use lapin::BasicProperties;
use lapin::types::FieldTable;
use polyqueue::Message;

use super::headers;
use super::properties::{BORN, key, number, text};

/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// The properties of a message that is published for the first time; its body is the payload.
pub(crate) fn encode(message: &Message, published_ms: i64) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.id().as_str().into())
        .with_priority(message.priority().get());
    let table = table(message);
    if !table.inner().is_empty() {
        properties = properties.with_headers(table);
    }
    if let Ok(published_ms) = u64::try_from(published_ms) {
        let app = format!("{BORN}{:03}", published_ms % 1000);
        properties = properties.with_timestamp(published_ms / 1000).with_app_id(app.into());
    }
    if !message.kind().is_empty() {
        properties = properties.with_type(message.kind().into());
    }
    if let Some(id) = message.correlation_id() {
        properties = properties.with_correlation_id(id.into());
    }
    properties
}

fn table(message: &Message) -> FieldTable {
    let mut table = FieldTable::default();
    headers::write(message.headers(), &mut table);
    if let Some(version) = message.schema_version() {
        table.insert(key::SCHEMA.into(), text(version));
    }
    if let Some(max) = message.max_attempts() {
        table.insert(key::MAX_ATTEMPTS.into(), number(max.get().into()));
    }
    if message.retries() > 0 {
        table.insert(key::RETRIES.into(), number(message.retries().into()));
    }
    if let Some(error) = message.last_error() {
        table.insert(key::ERROR.into(), text(error));
    }
    table
}
