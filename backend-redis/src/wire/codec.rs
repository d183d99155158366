//! A message as fields of a stream entry, and back. The page that the crate's documentation links to is the reference.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use polyqueue::backend::Parts;
use polyqueue::{Message, MessageId, Priority, ReplyAddress, Result};

use crate::wire::reply::Reply;
use crate::wire::request::Request;
use crate::wire::time::{millis, uid};

/// The major version of the wire format.
pub(crate) const VERSION: &str = "1";

/// The most fields of an entry that is read.
const MAX_FIELDS: usize = 500;

/// The fields of one entry, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields(Vec<(Bytes, Bytes)>);

impl Fields {
    pub(crate) fn from_pairs(pairs: Vec<(Bytes, Bytes)>) -> Self {
        Self(pairs)
    }

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

/// What the shape of a message has more when it has one of these; see `publish.lua`.
const DELAY: u64 = 100_000;
const TTL: u64 = 200_000;
const KEY: u64 = 400_000;
/// What it has more for each set of queues.
const SET: u64 = 1_000_000;

/// Whether a message needs no thought of the server.
pub(crate) fn is_plain(message: &Message) -> bool {
    message.delay().is_zero() && message.dedup_key().is_none()
}

/// A message as it is written.
pub(crate) struct Written<'a> {
    message: &'a Message,
    published_at: String,
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
            ("rt", message.reply_to().map(|address| address.as_str().into())),
            ("x", message.max_attempts().map(|max| max.to_string().into())),
            ("n", Some(message.retries()).filter(|&n| n > 0).map(|n| n.to_string().into())),
            ("le", message.last_error().map(Cow::Borrowed)),
            ("h", headers(message.headers())),
        ];
        let others = others.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let published_at = message.published_at().unwrap_or(now).timestamp_millis().to_string();
        Self { message, published_at, others }
    }

    /// As an argument of the scripts `publish` and, with the number of its set of queues from 1, `topic`.
    pub(crate) fn write(&self, set: u64, request: &mut Request) {
        let (delay, ttl) = (millis(self.message.delay()), self.message.ttl().map(millis));
        let key = self.message.dedup_key();
        let flag = |there: bool, flag: u64| if there { flag } else { 0 };
        let flags = flag(delay > 0, DELAY) + flag(ttl.is_some(), TTL) + flag(key.is_some(), KEY);
        let priority = 1000 * u64::from(self.message.priority().get());
        request.number(SET * set + flags + priority + 2 * self.others.len() as u64);
        if delay > 0 {
            request.number(delay).arg(uid());
        }
        if let Some(ttl) = ttl {
            request.number(ttl);
        }
        if let Some(key) = key {
            request.arg(key);
        }
        request.arg(self.message.id().as_str()).arg(&self.published_at).arg(self.message.payload());
        for (name, value) in &self.others {
            request.arg(name).arg(value.as_bytes());
        }
    }

    /// As names and values: what a stream has of a message without delay, time to live or key, and `p`, its priority.
    pub(crate) fn fields(&self) -> Vec<(&str, Cow<'_, [u8]>)> {
        let text = |text: &'a str| Cow::Borrowed(text.as_bytes());
        let mut fields = vec![
            ("v", text(VERSION)),
            ("id", Cow::Borrowed(self.message.id().as_str().as_bytes())),
            ("t", Cow::Borrowed(self.published_at.as_bytes())),
            ("p", self.message.priority().get().to_string().into_bytes().into()),
            ("data", Cow::Borrowed(&self.message.payload()[..])),
        ];
        fields.extend(self.others.iter().map(|(name, value)| (*name, Cow::Borrowed(value.as_bytes()))));
        fields
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
    let payload = fields.get("data").cloned().ok_or_else(|| Unreadable("field `data` is missing".into()))?;
    let mut parts = Parts::new(id(fields, stream_id)?, payload);
    parts.kind = label(fields, "k")?.unwrap_or_default().into();
    parts.schema_version = label(fields, "s")?.map(Cow::Owned);
    parts.priority = priority;
    parts.published_at = fields.parsed("t", |text| DateTime::from_timestamp_millis(text.parse().ok()?))?;
    parts.ttl = ttl(fields)?;
    parts.dedup_key = label(fields, "dk")?.filter(|key| !key.is_empty());
    parts.reply_to = fields.parsed("rt", |text| ReplyAddress::new(text).ok())?;
    parts.max_attempts = fields.parsed("x", |text| text.parse::<NonZeroU32>().ok())?;
    parts.retries = fields.number("n")?.unwrap_or_default();
    parts.last_error = fields.text("le")?.map(str::to_owned);
    parts.correlation_id = label(fields, "c")?;
    parts.headers = fields.parsed("h", |text| serde_json::from_str(text).ok())?.unwrap_or_default();
    Ok(parts.into())
}

/// How long it was to live. When it expires is field `e`, which only the server looks at.
fn ttl(fields: &Fields) -> Result<Option<Duration>, Unreadable> {
    fields.parsed("e", |text| text.parse::<u64>().ok())?;
    fields.parsed("tl", |text| text.parse().ok().map(Duration::from_millis))
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

    /// What the script makes of it.
    fn round(message: &Message) -> Message {
        let mut request = Request::plain("X");
        Written::new(message, Utc::now()).write(0, &mut request);
        let mut args = request.arguments().into_iter().skip(1);
        let shape: u64 = std::str::from_utf8(&args.next().unwrap()).unwrap().parse().unwrap();
        let mut values = Vec::new();
        if shape / DELAY % 2 == 1 {
            args.by_ref().take(2).for_each(drop);
        }
        if shape / TTL % 2 == 1 {
            values.push(("tl".into(), args.next().unwrap()));
        }
        if shape / KEY % 2 == 1 {
            values.push(("dk".into(), args.next().unwrap()));
        }
        for name in ["id", "t", "data"] {
            values.push((name.into(), args.next().unwrap()));
        }
        let others: Vec<Bytes> = args.collect();
        assert_eq!(others.len() as u64, shape % 1000);
        values.extend(others.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())));
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
            .with_ttl(Duration::from_secs(3600))
            .with_dedup_key("once")
            .with_reply_to(ReplyAddress::new("here").unwrap())
            .with_header("data", "not the payload")
            .with_header("é 😀.", "")
            .with_published_at(at);
        assert_eq!(round(&message), message);
    }

    #[test]
    fn a_plain_message_has_nothing_else() {
        let message = Message::new("x");
        assert!(Written::new(&message, Utc::now()).others.is_empty());
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
            (&[("data", ""), ("e", "soon")], "`e`"),
            (&[("data", ""), ("tl", "-1")], "`tl`"),
            (&[("data", ""), ("dk", "a\nb")], "`dk`"),
            (&[("data", ""), ("rt", "")], "`rt`"),
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
