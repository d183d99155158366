//! Declaring, binding and deleting: what the catalogue says changes only from what was read, so that no change of another is
//! lost.

use std::collections::BTreeSet;

use polyqueue::backend::Deadline;
use polyqueue::{Certainty, Error, Pattern, QueueName, QueueSpec, Result};
use serde_json::Value;
use tokio::time::Instant;

use crate::connection::handle::Handle;
use crate::scripts;
use crate::topology::catalogue;
use crate::topology::catalogue::Catalogue;
use crate::topology::notice::unbound_text;
use crate::wire::names;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::{Request, Script};
use crate::wire::time::uid;

pub(crate) async fn declare(handle: &Handle, spec: &QueueSpec) -> Result<()> {
    let merged = |existing: Option<&QueueSpec>| {
        let mut merged = spec.clone();
        if let Some(existing) = existing {
            spec.check_redeclared(existing)?;
            merged.bindings.extend(existing.bindings.iter().cloned());
        }
        Ok(Some(merged))
    };
    // Most are new.
    change(handle, "declare", &spec.name, None, None, merged).await
}

pub(crate) async fn unbind(
    catalogue: &Catalogue,
    handle: &Handle,
    queue: &QueueName,
    pattern: &Pattern,
) -> Result<()> {
    let without = |existing: Option<&QueueSpec>| {
        let mut spec = existing.cloned().ok_or_else(|| Error::not_found(queue.clone()))?;
        Ok(spec.bindings.remove(pattern).then_some(spec))
    };
    let limit = Deadline::new("unbind", handle.deadline);
    let known = catalogue.text_of(queue, limit).await?;
    change(handle, "unbind", queue, known, Some(&unbound_text(queue, pattern)), without).await
}

pub(crate) async fn delete(handle: &Handle, queue: &QueueName) -> Result<()> {
    let mut request = catalogued(&handle.namespace, &scripts::DELETE, queue);
    request.arg(names::deleted(&handle.namespace));
    let reply = handle.call("delete", request).await?;
    if reply == Reply::Number(0) { Err(Error::not_found(queue.clone())) } else { Ok(()) }
}

/// Writes what `change` makes of what is known, or of what turns out to be there; nothing when it makes nothing. Of what takes something
/// away all handles are told.
async fn change(
    handle: &Handle,
    what: &'static str,
    queue: &QueueName,
    mut known: Option<String>,
    said: Option<&str>,
    change: impl Fn(Option<&QueueSpec>) -> Result<Option<QueueSpec>>,
) -> Result<()> {
    let end = Instant::now() + handle.deadline;
    while Instant::now() < end {
        let existing = known.as_deref().map(|text| catalogue::parse(queue.as_str(), text));
        let existing = match said {
            // What nobody can read is no obstacle to who says what the queue is.
            None => existing.and_then(Result::ok),
            Some(_) => existing.transpose()?,
        };
        let Some(spec) = change(existing.as_ref())? else { return Ok(()) };
        let bindings = existing.map(|spec| spec.bindings).unwrap_or_default();
        let known_text = known.unwrap_or_default();
        let entry = entry(&known_text, &spec);
        let mut request = written(&handle.namespace, &known_text, entry, &spec, &bindings);
        request.number(0);
        if let Some(said) = said {
            request.arg(names::deleted(&handle.namespace)).arg(said);
        }
        known = match handle.call(what, request).await? {
            Reply::List(_) => return Ok(()),
            reply => reply.into_text().filter(|text| !text.is_empty()),
        };
    }
    Err(Error::timeout(what, handle.deadline, Certainty::Definite))
}

/// The request that writes an entry, if the catalogue says what is known and the bindings are these. Whether that is meant only for a queue
/// that is there comes next.
pub(crate) fn written(
    namespace: &str,
    known: &str,
    entry: Value,
    spec: &QueueSpec,
    bindings: &BTreeSet<Pattern>,
) -> Request {
    let mut request = catalogued(namespace, &scripts::DECLARE, &spec.name);
    request.arg(known).arg(entry.to_string()).arg(rules(entry)).arg(uid());
    request.number((spec.bindings != *bindings).into());
    request
}

/// A script that works on a queue, its entry in the catalogue, the version of the routes and what changed in them.
fn catalogued(namespace: &str, script: &'static Script, queue: &QueueName) -> Request {
    let keys = QueueKeys::new(namespace, queue);
    let others = [names::catalogue(namespace), names::version(namespace), names::changes(namespace)];
    let mut request = Request::on_keys(script, &[&keys], &others.each_ref().map(String::as_str));
    request.arg(queue.as_str());
    request
}

/// What the catalogue shall say of it: what it said, with these bindings, so that what a later version added stays.
pub(crate) fn entry(known: &str, spec: &QueueSpec) -> Value {
    let ours = serde_json::to_value(spec).unwrap_or_default();
    let Ok(Value::Object(mut entry)) = serde_json::from_str(known) else { return ours };
    entry.remove("bindings");
    entry.extend(ours.get("bindings").map(|bindings| ("bindings".to_owned(), bindings.clone())));
    Value::Object(entry)
}

/// What the scripts need to know of a queue; nothing for one without options.
fn rules(mut entry: Value) -> String {
    let Some(fields) = entry.as_object_mut() else { return String::new() };
    fields.remove("name");
    fields.remove("bindings");
    if fields.is_empty() { String::new() } else { entry.to_string() }
}

/// The same of what the catalogue says.
pub(crate) fn rules_of(entry: &str) -> String {
    serde_json::from_str(entry).map(rules).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::{Dedup, Overflow};
    use std::time::Duration;

    #[test]
    fn rules_are_what_is_not_plain() {
        let spec = QueueSpec::new(QueueName::from_static("q")).bind(Pattern::new("#").unwrap());
        assert_eq!(rules(entry("", &spec)), "");
        let spec = spec
            .bound(9, Overflow::DropOldest)
            .dead_max_age(Duration::from_secs(1))
            .dedup(Dedup::until_ack(Duration::from_millis(5)));
        assert_eq!(
            rules(entry("", &spec)),
            r#"{"bound":{"max_len":9,"overflow":"drop_oldest"},"dead":{"max_age_ms":1000},"dedup":{"until":"ack","window_ms":5}}"#
        );
    }

    #[test]
    fn what_a_later_version_wrote_is_passed_over_and_stays() {
        let known = r#"{"name":"q","colour":1,"bound":{"max_len":9,"overflow":"reject","unit":"bytes"},"bindings":["a"]}"#;
        let mut spec = catalogue::parse("q", known).unwrap();
        let plain = QueueSpec::new(QueueName::from_static("q")).bound(9, Overflow::Reject);
        assert_eq!(spec, plain.clone().bind(Pattern::new("a").unwrap()));
        spec.bindings.insert(Pattern::new("b").unwrap());
        let written: Value = serde_json::from_str(&known.replace("[\"a\"]", "[\"a\",\"b\"]")).unwrap();
        assert_eq!(entry(known, &spec), written);
        assert_eq!(entry(known, &plain).get("bindings"), None);
        assert_eq!(
            rules(entry(known, &spec)),
            r#"{"bound":{"max_len":9,"overflow":"reject","unit":"bytes"},"colour":1}"#
        );
    }
}
