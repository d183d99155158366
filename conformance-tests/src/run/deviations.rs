//! What a backend is known not to keep: read from `deviations.toml`, which may only shrink.

use std::path::Path;

use serde::Deserialize;

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
    pub(crate) issue: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    deviation: Vec<Deviation>,
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

    /// How many deviations are declared.
    const MOST: usize = 1;
}
