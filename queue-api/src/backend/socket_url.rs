//! The URL of a socket of this machine, taken apart as strictly as a broker's URL.

use std::fmt;
use std::path::{Path, PathBuf};

use super::url_parts::{Parameters, decoded};
use crate::redacted::{is_socket, redacted};
use crate::{Error, Result};

/// `scheme+unix:///path/of/socket[?key=value…]`, taken apart and percent-decoded once. A login stands in parameters.
#[derive(Clone)]
pub struct SocketUrl {
    /// The scheme, in lower case; it ends in `+unix`.
    pub scheme: String,
    /// Where the socket is; absolute.
    pub path: PathBuf,
    parameters: Parameters,
    shown: String,
    allowed: &'static str,
}

impl SocketUrl {
    /// Whether `text` is meant to be one, by its scheme.
    pub fn is_meant(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| is_socket(scheme))
    }

    /// Takes `text` apart. `allowed` says in errors what a URL looks like, `known` names the parameters that it may have.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a host or a login, a path that is no file's, a fragment, and parameters that are unknown, repeated or
    /// without a value.
    pub fn parse(text: &str, allowed: &'static str, known: &[&'static str]) -> Result<Self> {
        let shown = redacted(text);
        let fail = |fault: String| Error::invalid("URL", format!("{shown:?}: {fault}; allowed is {allowed}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| fail("the scheme is missing".into()))?;
        if rest.contains(['@', '#']) {
            return Err(fail("an @ or # is written %40 or %23; a login stands in parameters".into()));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = decoded(path).map_err(fail)?;
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            return Err(fail("a socket's absolute path does not follow the ://".into()));
        }
        let parameters = Parameters::read(query, known).map_err(fail)?;
        let scheme = scheme.to_ascii_lowercase();
        Ok(Self { scheme, path: Path::new(&path).to_owned(), parameters, shown, allowed })
    }

    /// The value of a parameter, where it is given.
    pub fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters.get(key)
    }

    /// The error that says what is wrong with this URL, and what is allowed.
    pub fn refused(&self, fault: &str) -> Error {
        Error::invalid("URL", format!("{:?}: {fault}; allowed is {}", self.shown, self.allowed))
    }
}

/// Without secrets.
impl fmt::Display for SocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Without secrets.
impl fmt::Debug for SocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "x+unix:///path";

    fn parse(text: &str) -> Result<SocketUrl> {
        SocketUrl::parse(text, FORM, &["db"])
    }

    #[test]
    fn the_path_and_the_parameters_are_found() {
        let url = parse("x+unix:///run/a%20b/r.sock?db=3").unwrap();
        assert_eq!(url.scheme, "x+unix");
        assert_eq!((url.path.to_str(), url.parameter("db")), (Some("/run/a b/r.sock"), Some("3")));
        assert_eq!(parse("x+unix:///r.sock").unwrap().to_string(), "x+unix:///r.sock");
        assert!(SocketUrl::is_meant("X+UNIX:///r") && !SocketUrl::is_meant("x://unix"));
    }

    #[test]
    fn everything_else_is_refused_without_its_secrets() {
        for text in [
            "x+unix://",
            "x+unix:///",
            "x+unix://hunter2/r.sock",
            "x+unix://:hunter2@/r.sock",
            "x+unix:///r.sock#hunter2",
            "x+unix:///r.sock?hunter2=1",
            "x+unix:///r.sock?db=1&db=hunter2",
            "x+unix:///hunter2 x",
            "x+unix:///%zzhunter2",
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains(FORM), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
        }
    }
}
