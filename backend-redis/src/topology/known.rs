//! What a handle knows of its queues, what the server says of them, and what follows from both.

use polyqueue::{QueueName, QueueSpec};
use serde_json::Value;

use crate::topology::catalogue;
use crate::topology::declare::rules_of;

/// A queue as it was, and since when the server had lost nothing then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) spec: QueueSpec,
    /// What the catalogue said, with whatever a later version of ours wrote there.
    pub(crate) text: String,
    pub(crate) epoch: String,
}

/// A queue as the server has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// What the catalogue says, or nothing.
    pub(crate) entry: String,
    /// Which version made the queue; nothing where it is not there.
    pub(crate) made_by: String,
    pub(crate) rules: String,
}

/// What a look at a queue leads to.
#[derive(Debug, PartialEq)]
pub(crate) enum Finding {
    /// It is not there, and stays so.
    Gone,
    /// It is as it shall be.
    Sound(QueueSpec),
    /// It is to be declared so.
    Lost(Repair),
}

/// How a queue is declared again.
#[derive(Debug, PartialEq)]
pub(crate) struct Repair {
    pub(crate) spec: QueueSpec,
    /// What the catalogue said of it last.
    pub(crate) text: String,
    /// It comes from what this handle knew, which a deletion would have ended.
    pub(crate) is_remembered: bool,
    /// Only if the queue is there: whoever deletes it takes it and its entry away together.
    pub(crate) only_there: bool,
}

impl Found {
    fn is_there(&self) -> bool {
        !self.made_by.is_empty()
    }

    fn spec(&self, queue: &QueueName) -> Option<QueueSpec> {
        catalogue::parse(queue.as_str(), &self.entry).ok().filter(|_| !self.entry.is_empty())
    }

    /// Whether the scripts are told what the catalogue says.
    fn has_its_rules(&self) -> bool {
        let value = |text: &str| serde_json::from_str::<Value>(text).ok();
        let rules = rules_of(&self.entry);
        rules == self.rules || (!rules.is_empty() && value(&rules) == value(&self.rules))
    }
}

/// What a look leads to, at this epoch, an empty one where there is none. What another has declared since a loss stands;
/// bindings are added, as a declare adds them.
pub(crate) fn finding(queue: &QueueName, known: Option<&Known>, found: &Found, epoch: &str) -> Finding {
    let readable = found.spec(queue);
    let is_foreign = found.is_there() && found.made_by != "1";
    let is_lost = known.is_some_and(|known| known.epoch != epoch || epoch.is_empty());
    let is_marked = !found.entry.is_empty() || found.is_there();
    match (readable, known) {
        (None, None) => Finding::Gone,
        (None, Some(_)) if !is_lost && !is_marked => Finding::Gone,
        (None, Some(known)) if is_foreign => Finding::Sound(known.spec.clone()),
        (None, Some(known)) => Finding::Lost(Repair {
            spec: known.spec.clone(),
            text: known.text.clone(),
            is_remembered: true,
            only_there: found.entry.is_empty() && found.is_there(),
        }),
        (Some(spec), _) if is_foreign => Finding::Sound(spec),
        (Some(mut spec), known) => {
            let bindings = spec.bindings.len();
            spec.bindings
                .extend(known.filter(|_| is_lost).into_iter().flat_map(|it| it.spec.bindings.clone()));
            let is_bound = spec.bindings.len() == bindings;
            let is_unmarked = known.is_some() && epoch.is_empty();
            if is_bound && found.is_there() && found.has_its_rules() && !is_unmarked {
                return Finding::Sound(spec);
            }
            let text = found.entry.clone();
            Finding::Lost(Repair { spec, text, is_remembered: !is_bound, only_there: false })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueName = QueueName::from_static("q");
    const ENTRY: &str =
        r#"{"name":"q","bindings":["a"],"bound":{"max_len":9,"overflow":"reject"},"colour":1}"#;

    fn known(epoch: &str) -> Known {
        let spec = catalogue::parse("q", ENTRY).unwrap();
        Known { spec, text: ENTRY.into(), epoch: epoch.into() }
    }

    fn found(entry: &str, made_by: &str, rules: &str) -> Found {
        Found { entry: entry.into(), made_by: made_by.into(), rules: rules.into() }
    }

    fn repair(known: Option<&Known>, found: &Found, epoch: &str) -> Repair {
        match finding(&QUEUE, known, found, epoch) {
            Finding::Lost(repair) => repair,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_deleted_stays_so_and_what_is_lost_does_not() {
        let nothing = Found::default();
        assert_eq!(finding(&QUEUE, None, &nothing, "e"), Finding::Gone);
        assert_eq!(finding(&QUEUE, Some(&known("e")), &nothing, "e"), Finding::Gone);
        for epoch in ["other", ""] {
            let repair = repair(Some(&known("e")), &nothing, epoch);
            assert!(repair.is_remembered && !repair.only_there && repair.text == ENTRY, "{repair:?}");
        }
    }

    #[test]
    fn half_of_a_queue_is_made_whole() {
        let rules = rules_of(ENTRY);
        let whole = found(ENTRY, "1", &rules);
        assert!(matches!(finding(&QUEUE, Some(&known("e")), &whole, "e"), Finding::Sound(_)));
        let spaced = found(ENTRY, "1", &rules.replace(',', " , "));
        assert!(matches!(finding(&QUEUE, None, &spaced, "e"), Finding::Sound(_)));
        for half in [found(ENTRY, "", ""), found(ENTRY, "1", "not json"), found(ENTRY, "1", "")] {
            assert!(!repair(None, &half, "e").is_remembered);
        }
        for (entry, only_there) in [("", true), ("not json", false)] {
            let repair = repair(Some(&known("e")), &found(entry, "1", &rules), "e");
            assert_eq!((repair.is_remembered, repair.only_there), (true, only_there));
        }
        let later = found("not json", "2", "");
        assert!(matches!(finding(&QUEUE, Some(&known("e")), &later, "e"), Finding::Sound(_)));
    }

    #[test]
    fn bindings_are_added_after_a_loss_and_not_without_one() {
        let bare = r#"{"name":"q","dedup":{"window_ms":5}}"#;
        let found = found(bare, "1", &rules_of(bare));
        assert!(matches!(finding(&QUEUE, Some(&known("e")), &found, "e"), Finding::Sound(_)));
        let repair = repair(Some(&known("e")), &found, "other");
        assert_eq!(repair.spec.bindings, known("e").spec.bindings);
        assert!(repair.spec.dedup.is_some() && repair.spec.bound.is_none(), "what another declared stands");
    }
}
