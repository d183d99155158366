//! What a backend is known not to keep: read from `deviations.toml`, which may only shrink.

use std::path::Path;

use serde::Deserialize;

use super::one::Judged;
use super::report::End;
use crate::Fail;

/// One case that is known to fail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deviation {
    /// The harness that it is about.
    pub(crate) harness: String,
    /// The case's id.
    pub(crate) case: String,
    /// Why.
    pub(crate) reason: String,
    /// Where it is being looked after.
    #[serde(rename = "where")]
    pub(crate) place: String,
    /// It depends on the seed: some runs pass.
    #[serde(default)]
    pub(crate) sometimes: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    deviation: Vec<Deviation>,
}

/// What a case came to that is declared, or not: a declared one must fail, and one that passes must be taken off the list, unless
/// chance has a part in it.
pub(crate) fn as_declared(
    declared: Option<&Deviation>,
    outcome: Result<Judged, Fail>,
) -> Result<(End, Option<String>), Fail> {
    match (declared, outcome) {
        (_, Ok(Judged::TooSlow(why))) => Ok((End::TooSlow, Some(why))),
        (None, outcome) => outcome.map(|_| (End::Passed, None)),
        (Some(declared), Err(_)) => {
            Ok((End::Declared, Some(format!("{} ({})", declared.reason, declared.place))))
        }
        (Some(declared), Ok(Judged::Passed)) if declared.sometimes => Ok((End::Passed, None)),
        (Some(_), Ok(Judged::Passed)) => {
            Err("passes, although deviations.toml says that it does not: remove it there".into())
        }
    }
}

/// The declared deviations of one harness; none where there is no file.
pub(crate) fn read(file: &Path, harness: &str) -> Result<Vec<Deviation>, String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    let file: File = toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file.deviation.into_iter().filter(|it| it.harness == harness).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_file_can_be_read_and_names_only_cases_that_exist() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deviations.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let all = toml::from_str::<File>(&text).unwrap().deviation;
        for deviation in &all {
            assert!(crate::cases::all().iter().any(|case| case.id == deviation.case), "{deviation:?}");
        }
        assert_eq!(all.len(), MOST, "the list may only shrink: lower MOST with it, never raise it");
    }

    #[test]
    fn a_declared_case_must_fail_and_is_shown_with_its_reason() {
        let text = "[[deviation]]\nharness = 'x'\ncase = 'C-X'\nreason = 'late'\nwhere = 'docs'";
        let declared = &toml::from_str::<File>(text).unwrap().deviation[0];
        let failed = as_declared(Some(declared), Err("broken".into())).unwrap();
        assert_eq!(failed, (End::Declared, Some("late (docs)".into())));
        let passed = as_declared(Some(declared), Ok(Judged::Passed)).unwrap_err();
        assert!(passed.what().contains("remove it there"), "{passed}");
        let by_chance = Deviation { sometimes: true, ..declared.clone() };
        assert_eq!(as_declared(Some(&by_chance), Ok(Judged::Passed)).unwrap().0, End::Passed);
        assert_eq!(as_declared(Some(&by_chance), Err("broken".into())).unwrap().0, End::Declared);
        assert_eq!(as_declared(None, Ok(Judged::Passed)).unwrap().0, End::Passed);
        assert!(as_declared(None, Err("broken".into())).is_err());
    }

    /// How many deviations are declared.
    const MOST: usize = 0;
}
