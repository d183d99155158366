//! A message as fields of a stream entry, and back. `docs/wire-format.md` is the reference.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use polyqueue::{Message, MessageId, Parts, Priority};

use crate::link::{Reply, Request};

/// The major version of the wire format.
pub(crate) const VERSION: &str = "1";

/// The most fields of an entry that is read.
const MAX_FIELDS: usize = 500;

/// The fields of one entry, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields(Vec<(Bytes, Bytes)>);

impl Fields {
    pub(crate) fn from_reply(reply: Reply) -> Option<Self> {
        let mut values = reply.into_list()?.into_iter();
        let mut fields = Vec::with_capacity(values.len() / 2);
        while let (Some(name), Some(value)) = (values.next(), values.next()) {
            fields.push((name.into_bytes()?, value.into_bytes()?));
        }
        Some(Self(fields))
    }

    /// The first `count` fields, taken away.
    pub(crate) fn split_front(&mut self, count: usize) -> Self {
        Self(self.0.drain(..count.min(self.0.len())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, Unreadable> {
        let text = self.get(name).map(|value| std::str::from_utf8(value));
        text.transpose().map_err(|_| Unreadable(format!("field `{name}` is not UTF-8")))
    }

    /// A number, such as the failed attempts so far.
    pub(crate) fn number(&self, name: &'static str) -> Result<Option<u32>, Unreadable> {
        self.parsed(name, |text| text.parse().ok())
    }

    /// The bytes that stood where a message should have been: `data`, else all values, one after the other.
    pub(crate) fn raw(&self) -> Bytes {
        match self.get("data") {
            Some(data) => data.clone(),
            None => self.0.iter().flat_map(|(_, value)| value.iter().copied()).collect(),
        }
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Unreadable> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| Unreadable(format!("field `{name}` cannot be read")))
    }
}

/// Why an entry is no message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unreadable(pub(crate) String);

/// A message for the script `publish`: what it adds to the shape, and what comes after it.
pub(crate) struct Written<'a> {
    message: &'a Message,
    published_at: DateTime<Utc>,
    others: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Written<'a> {
    /// `now` is when it is published, unless it says otherwise.
    pub(crate) fn new(message: &'a Message, now: DateTime<Utc>) -> Self {
        let text = |text: &'a str| Some(text).filter(|text| !text.is_empty()).map(Cow::Borrowed);
        let others = [
            ("k", text(message.kind())),
            ("s", message.schema_version().map(Cow::Borrowed)),
            ("c", message.correlation_id().map(Cow::Borrowed)),
            ("x", message.max_attempts().map(|max| max.to_string().into())),
            ("n", Some(message.retries()).filter(|&n| n > 0).map(|n| n.to_string().into())),
            ("le", message.last_error().map(Cow::Borrowed)),
            ("h", headers(message.headers())),
        ];
        let others = others.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Self { message, published_at: message.published_at().unwrap_or(now), others }
    }

    /// How many names and values there are besides version, id, time and payload.
    pub(crate) fn others(&self) -> u64 {
        2 * self.others.len() as u64
    }

    pub(crate) fn write(&self, request: &mut Request) {
        request.arg(self.message.id().as_str()).arg(self.published_at.timestamp_millis().to_string());
        request.arg(self.message.payload());
        for (name, value) in &self.others {
            request.arg(name).arg(value.as_bytes());
        }
    }
}

fn headers(headers: &BTreeMap<String, String>) -> Option<Cow<'_, str>> {
    let json = || serde_json::to_string(headers).expect("a map of strings is JSON");
    (!headers.is_empty()).then(|| json().into())
}

/// Reads a message. `stream_id` becomes its id, `priority` its priority, where the fields say nothing of either.
pub(crate) fn read(fields: &Fields, stream_id: &str, priority: Priority) -> Result<Message, Unreadable> {
    if fields.0.len() > MAX_FIELDS {
        return Err(Unreadable(format!("more than {MAX_FIELDS} fields")));
    }
    let version = fields.text("v")?.unwrap_or(VERSION);
    if version.split('.').next() != Some(VERSION) {
        return Err(Unreadable(format!("version {version:?} of the wire format is not known")));
    }
    for own in ["a", "ta", "rd"] {
        fields.number(own)?;
    }
    Ok(Parts {
        payload: fields.get("data").cloned().ok_or_else(|| Unreadable("field `data` is missing".into()))?,
        id: id(fields, stream_id)?,
        kind: label(fields, "k")?.unwrap_or_default().into(),
        schema_version: label(fields, "s")?.map(Cow::Owned),
        priority,
        published_at: fields.parsed("t", |text| DateTime::from_timestamp_millis(text.parse().ok()?))?,
        delay: Duration::ZERO,
        ttl: None,
        dedup_key: None,
        reply_to: None,
        max_attempts: fields.parsed("x", |text| text.parse::<NonZeroU32>().ok())?,
        retries: fields.number("n")?.unwrap_or_default(),
        last_error: fields.text("le")?.map(str::to_owned),
        correlation_id: label(fields, "c")?,
        headers: fields.parsed("h", |text| serde_json::from_str(text).ok())?.unwrap_or_default(),
    }
    .into())
}

fn id(fields: &Fields, stream_id: &str) -> Result<MessageId, Unreadable> {
    let id = MessageId::new(fields.text("id")?.unwrap_or(stream_id));
    id.map_err(|_| Unreadable("field `id` cannot be read".into()))
}

/// A text that may hold no control characters, nor be longer than what is accepted at publish.
fn label(fields: &Fields, name: &'static str) -> Result<Option<String>, Unreadable> {
    let good = |text: &str| text.len() <= 200 && !text.chars().any(char::is_control);
    fields.parsed(name, |text| good(text).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        Fields(
            pairs
                .iter()
                .map(|(k, v)| (Bytes::copy_from_slice(k.as_bytes()), Bytes::copy_from_slice(v.as_bytes())))
                .collect(),
        )
    }

    fn round(message: &Message) -> Message {
        let mut request = Request::plain("X");
        let written = Written::new(message, Utc::now());
        written.write(&mut request);
        let args = request.arguments();
        assert_eq!(args.len() as u64, 4 + written.others());
        let mut values = vec![("id".into(), args[1].clone()), ("t".into(), args[2].clone())];
        values.push(("data".into(), args[3].clone()));
        values.extend(args[4..].chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())));
        read(&Fields(values), "1-0", message.priority()).unwrap()
    }

    #[test]
    fn everything_comes_back() {
        let at = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        let message = Message::new(vec![0, 255, 13, 10])
            .with_kind("mail")
            .with_schema_version("2.0.0")
            .with_priority(Priority::new(9).unwrap())
            .with_max_attempts(NonZeroU32::new(7).unwrap())
            .with_correlation_id("c")
            .with_header("data", "not the payload")
            .with_header("é 😀.", "")
            .with_published_at(at);
        assert_eq!(round(&message), message);
    }

    #[test]
    fn a_plain_message_has_nothing_else() {
        let message = Message::new("x");
        assert_eq!(Written::new(&message, Utc::now()).others(), 0);
        let back = round(&message);
        assert!(back.published_at().is_some());
        assert_eq!(back.into_parts().id, *message.id());
    }

    #[test]
    fn a_foreign_entry_is_a_message() {
        let message = read(&fields(&[("data", "hello"), ("trace", "?")]), "17-3", Priority::HIGHEST).unwrap();
        assert_eq!((message.id().as_str(), message.kind(), message.priority().get()), ("17-3", "", 10));
        assert_eq!(message.published_at(), None);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (pairs, says) in [
            (&[("body", "x")][..], "`data` is missing"),
            (&[("data", ""), ("v", "2")], "version"),
            (&[("data", ""), ("v", "")], "version"),
            (&[("data", ""), ("id", "")], "`id`"),
            (&[("data", ""), ("k", "a\nb")], "`k`"),
            (&[("data", ""), ("t", "yesterday")], "`t`"),
            (&[("data", ""), ("x", "0")], "`x`"),
            (&[("data", ""), ("n", "-1")], "`n`"),
            (&[("data", ""), ("a", "many")], "`a`"),
            (&[("data", ""), ("h", "{\"k\":1}")], "`h`"),
            (&[("data", ""), ("h", "{")], "`h`"),
        ] {
            let Unreadable(error) = read(&fields(pairs), "1-0", Priority::DEFAULT).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(read(&fields(&[("data", ""), ("v", "1.4")]), "1-0", Priority::DEFAULT).is_ok());
    }

    #[test]
    fn raw_bytes_are_the_data_or_all_values() {
        assert_eq!(fields(&[("v", "9"), ("data", "x")]).raw(), "x");
        assert_eq!(fields(&[("a", "b"), ("c", "d")]).raw(), "bd");
    }
}
