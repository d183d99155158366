//! Dead letters from the command line.

use serde_json::Value;

use crate::on::On;

/// Three dead letters: two rejected, one out of attempts.
fn three_dead(on: &On) {
    on.ok(&["publish", "q", "one"]);
    on.ok(&["publish", "q", "two"]);
    on.ok(&["work", "q", "--exec", "echo not mine >&2; exit 65", "--until-empty"]);
    on.ok(&["publish", "q", "three", "--max-attempts", "1", "--header", "h=v"]);
    on.ok(&["work", "q", "--exec", "echo broken >&2; exit 1", "--until-empty"]);
}

fn ids(letters: &Value) -> Vec<String> {
    let letters = letters.as_array().expect("an array");
    letters.iter().map(|letter| letter["id"].as_str().expect("an id").to_owned()).collect()
}

fn dead_letters_are_listed_by_filter(on: &On) {
    three_dead(on);
    let all = on.json(&["dead", "list", "q"]);
    assert_eq!(all.as_array().map(Vec::len), Some(3));
    let last = &on.json(&["dead", "list", "q", "--reason", "max_attempts"])[0];
    assert_eq!(
        (&last["text"], &last["error"], &last["attempts"]),
        (&"three".into(), &"broken".into(), &1.into())
    );
    assert_eq!(last["headers"]["h"], "v");
    assert_eq!(ids(&on.json(&["dead", "list", "q", "--error", "mine"])).len(), 2);
    assert_eq!(ids(&on.json(&["dead", "list", "q", "--limit", "1"])).len(), 1);
    assert!(on.ok(&["dead", "list", "q"]).contains("broken"), "a table for people");
    assert_eq!(on.run(&["dead", "list", "q", "--error", "no such text"]).code, 3);
}

fn dead_letters_are_redriven_and_discarded(on: &On) {
    three_dead(on);
    let one = ids(&on.json(&["dead", "list", "q", "--reason", "rejected", "--limit", "1"])).remove(0);
    assert_eq!(on.json(&["dead", "redrive", "q", &one])["redriven"], 1);
    assert_eq!(on.run(&["dead", "redrive", "q", &one]).code, 3, "it is gone");
    assert_eq!(on.json(&["dead", "discard", "q", "--reason", "rejected"])["discarded"], 1);
    assert_eq!(on.run(&["dead", "discard", "q"]).code, 2, "discarding all wants --yes");
    assert_eq!(on.json(&["dead", "redrive", "q"])["redriven"], 1, "all that is left");
    assert_eq!(on.json(&["stats", "q"])[0]["ready"], 2);
    on.ok(&["work", "q", "--exec", "exit 65", "--until-empty"]);
    assert_eq!(on.json(&["dead", "discard", "q", "--yes"])["discarded"], 2);
    assert_eq!(on.run(&["dead", "list", "q"]).code, 3);
}

fn what_strangers_wrote_does_not_steer_the_terminal(on: &On) {
    on.ok(&["publish", "q", "x", "--max-attempts", "1"]);
    on.ok(&["work", "q", "--exec", r"printf '\033[2Jred\n' >&2; exit 1", "--until-empty"]);
    let error = on.json(&["dead", "list", "q"])[0]["error"].clone();
    let shown = on.ok(&["dead", "list", "q"]);
    assert!(!shown.contains('\x1b') && shown.contains("[2Jred"), "{shown:?}");
    assert_eq!(error, "\x1b[2Jred", "JSON says it as it is");
}

crate::on_each_broker!(
    dead_letters_are_listed_by_filter,
    dead_letters_are_redriven_and_discarded,
    what_strangers_wrote_does_not_steer_the_terminal,
);
