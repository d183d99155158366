//! Holds three lists equal: what is promised, what `manifest.toml` says is built, and what cases and tests check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::cases;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    built: BTreeSet<String>,
    planned: BTreeSet<String>,
    /// Statements that no broker has a part in, and the tests that check them: `file::function`, from the root.
    tests: BTreeMap<String, Vec<String>>,
}

fn read(file: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn manifest() -> Manifest {
    toml::from_str(&read("manifest.toml")).unwrap()
}

/// The statements that a text in Markdown makes: `**S-PUB-1**`.
fn made_in(text: &str) -> BTreeSet<String> {
    let bold = text.split("**").skip(1).step_by(2);
    bold.filter(|word| word.starts_with("S-") && !word.contains(' ')).map(Into::into).collect()
}

fn cited() -> BTreeSet<String> {
    cases::all().iter().flat_map(|case| case.statements).map(|&statement| statement.into()).collect()
}

#[test]
fn what_is_promised_is_what_is_built() {
    let (promised, manifest) = (made_in(&read("../docs/semantics.md")), manifest());
    assert_eq!(promised, manifest.built);
    assert!(manifest.built.is_disjoint(&manifest.planned));
}

#[test]
fn every_built_statement_is_checked_and_nothing_else_is() {
    let manifest = manifest();
    let cited: BTreeSet<String> = cited().into_iter().chain(manifest.tests.into_keys()).collect();
    let unchecked: Vec<&String> = manifest.built.difference(&cited).collect();
    let unknown: Vec<&String> = cited.difference(&manifest.built).collect();
    assert!(unchecked.is_empty(), "built, but checked by no case and no test: {unchecked:?}");
    assert!(unknown.is_empty(), "cited, but not built: {unknown:?}");
}

#[test]
fn tests_that_check_statements_are_there() {
    for (statement, tests) in manifest().tests {
        assert!(!tests.is_empty(), "{statement} names no test");
        for test in tests {
            let Some((file, function)) = test.split_once("::") else { panic!("{test}: no file::function") };
            let there = format!("fn {function}() {{");
            let is_test = |(line, next): (&str, &str)| line.contains("test") && next.contains(&there);
            let text = read(&format!("../{file}"));
            assert!(text.lines().zip(text.lines().skip(1)).any(is_test), "{statement}: there is no {test}");
        }
    }
}

#[test]
fn every_case_has_a_number_of_its_own_and_cites_something() {
    let mut seen = BTreeSet::new();
    for case in cases::all() {
        assert!(seen.insert(case.id), "{} stands twice", case.id);
        assert!(case.id.starts_with("C-") && !case.statements.is_empty(), "{}", case.id);
    }
}

#[test]
fn statements_are_found_in_markdown() {
    let text = "- **S-PUB-1** `Ok` means **stored**, see **S-PUB-2**.";
    assert_eq!(made_in(text), BTreeSet::from(["S-PUB-1".into(), "S-PUB-2".into()]));
}
