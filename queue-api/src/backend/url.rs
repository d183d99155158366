//! A broker's URL, taken apart strictly: nothing that is given is ignored, and no error shows a secret.

use std::fmt;

use super::url_parts::{Parameters, Read, decoded};
use crate::place::{Place, read_place};
use crate::redacted::redacted;
use crate::{Error, Result};

/// `scheme://[user:password@]host[:port][/path][?key=value…]`, taken apart and percent-decoded once.
#[derive(Clone)]
pub struct BrokerUrl {
    /// The scheme, in lower case.
    pub scheme: String,
    /// Whose login it is; the user may be empty, the password is not.
    pub login: Option<Login>,
    /// A name or an address; an IPv6 address is without its brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: Option<u16>,
    /// The one segment of the path, if it is not empty.
    pub path: Option<String>,
    parameters: Parameters,
    shown: String,
    allowed: &'static str,
}

/// A user with a password.
#[derive(Clone)]
pub struct Login {
    /// The user, or nothing.
    pub user: String,
    /// The password.
    pub password: String,
}

impl BrokerUrl {
    /// Takes `text` apart. `allowed` says in errors what a URL looks like, `known` names the parameters that it may have.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is malformed, for a user without a password, a port of 0 or above 65535, a path of more than a
    /// segment, a fragment, and parameters that are unknown, repeated or without a value.
    pub fn parse(text: &str, allowed: &'static str, known: &[&'static str]) -> Result<Self> {
        let shown = redacted(text);
        let fail = |fault: String| Error::invalid("URL", format!("{shown:?}: {fault}; allowed is {allowed}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| fail("the scheme is missing".into()))?;
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(fail("a space or control character is not percent-encoded".into()));
        }
        if rest.contains('#') {
            return Err(fail("nothing may follow a #, which is written %23 in a password".into()));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if [path, query].iter().any(|part| part.contains('@')) {
            return Err(fail("an @ stands after a / or ?; in a password write %40, %2F and %3F".into()));
        }
        let (login, place) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((login, place)) => (Some(read_login(login).map_err(fail)?), place),
        };
        let Place { host, port } = read_place(place).map_err(|fault| fail(fault.into()))?;
        let path = read_path(path).map_err(fail)?;
        let parameters = Parameters::read(query, known).map_err(fail)?;
        let scheme = scheme.to_ascii_lowercase();
        Ok(Self { scheme, login, host, port, path, parameters, shown, allowed })
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
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Without secrets.
impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown)
    }
}

/// Without the password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn read_login(text: &str) -> Read<Login> {
    let Some((user, password)) = text.split_once(':').filter(|(_, password)| !password.is_empty()) else {
        return Err("a user stands without a password".into());
    };
    if text.contains('@') {
        return Err("an @ in the password is written %40".into());
    }
    Ok(Login { user: decoded(user)?, password: decoded(password)? })
}

fn read_path(text: &str) -> Read<Option<String>> {
    match text {
        "" => Ok(None),
        _ if text.contains('/') => Err("the path has more than one segment; a / in it is written %2F".into()),
        _ => decoded(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORM: &str = "redis://[user][:password]@host";

    fn parse(text: &str) -> Result<BrokerUrl> {
        BrokerUrl::parse(text, FORM, &["depth"])
    }

    #[test]
    fn every_part_is_found_and_decoded_once() {
        let url = parse("REDIS://us%20er:p%2540ss:w@host-1.b_c:1/a%2fb?depth=3%25").unwrap();
        let login = url.login.as_ref().unwrap();
        assert_eq!(
            (url.scheme.as_str(), login.user.as_str(), login.password.as_str()),
            ("redis", "us er", "p%40ss:w")
        );
        assert_eq!((url.host.as_str(), url.port, url.path.as_deref()), ("host-1.b_c", Some(1), Some("a/b")));
        assert_eq!((url.parameter("depth"), url.parameter("height")), (Some("3%"), None));
        assert!(!format!("{url} {url:?} {login:?}").contains("p%"));
    }

    #[test]
    fn an_address_of_ipv6_has_brackets_in_the_url_only() {
        for (text, port) in [("x://[::1]", None), ("x://[::1]:6379/", Some(6379))] {
            let url = parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port, url.path), ("::1", port, None));
        }
    }

    #[test]
    fn everything_else_is_refused_by_its_name() {
        for (text, says) in [
            ("host", "scheme"),
            ("x://", "host is missing"),
            ("x://:1", "host is missing"),
            ("x://u:hunter2@", "host is missing"),
            ("x://user@host", "without a password"),
            ("x://user:@host", "without a password"),
            ("x://@host", "without a password"),
            ("x://u:hunt@er2@host", "%40"),
            ("x://u:a/hunter2@host", "%2F"),
            ("x://u:a?hunter2&b@host", "%3F"),
            ("x://u:a#hunter2@host", "%23"),
            ("x://u:%zzhunter2@host", "%25"),
            ("x://u:%ffhunter2@host", "UTF-8"),
            ("x://u:hunter2 @host", "space"),
            ("x://host:0", "1 to 65535"),
            ("x://host:65536", "1 to 65535"),
            ("x://host:", "1 to 65535"),
            ("x://host:+1", "1 to 65535"),
            ("x://user:hunter2", "1 to 65535"),
            ("x://::1", "host is not"),
            ("x://[::1", "IPv6"),
            ("x://[nonsense]:1", "IPv6"),
            ("x://a b", "space"),
            ("x://host\n", "control"),
            ("x\n://host", "control"),
            ("x://73616213", "host is not"),
            ("x://0x7f.1", "host is not"),
            ("x://1.2.3", "host is not"),
            ("x://1.2.3.256", "host is not"),
            ("x://host.1.", "host is not"),
            ("x://a..b", "host is not"),
            ("x://.", "host is not"),
            ("x://-a", "host is not"),
            ("x://host/a/b", "more than one segment"),
            ("x://host/a/", "more than one segment"),
            ("x://host#", "#"),
            ("x://host?hunter2=1", "parameter 1 is not known, known is depth"),
            ("x://host?depth=1&depth=1", "\"depth\" is given twice"),
            ("x://host?depth", "has no value"),
            ("x://host?&depth=1", "has no value"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(FORM), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    fn is_dialled(url: &BrokerUrl, text: &str) -> bool {
        use std::net::{Ipv4Addr, Ipv6Addr};
        let is_label = |label: &str| {
            let inner = label.trim_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            (1..64).contains(&label.len())
                && inner.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let host = url.host.trim_end_matches('.');
        let is_name = host.split('.').all(is_label) && host.contains(|c: char| !"0123456789.".contains(c));
        if url.host.contains(':') {
            return url.host.parse::<Ipv6Addr>().is_ok() && text.contains('[');
        }
        is_name || url.host.parse::<Ipv4Addr>().is_ok()
    }

    proptest! {
        #[test]
        fn what_is_taken_as_a_host_can_be_dialled(
            before in "([a-c]:[a-c]@)?", host in "[0-9]{1,9}|[0-9.]{1,9}|[a-cx0-9._-]{1,9}|[:\\[\\]1a]{1,6}|[1a.\\s]{1,4}|\\PC{1,5}",
            after in "(:[0-9]{1,6})?(/[a-c]?)?\\s?",
        ) {
            let text = format!("x://{before}{host}{after}");
            if let Ok(url) = parse(&text) {
                prop_assert!(is_dialled(&url, &text), "{text:?}: {:?}", url.host);
            }
        }

        #[test]
        fn whatever_is_wrong_no_secret_is_in_the_answer(
            before in "(x://|redis://a:b@c/)?[ @:/?#&=%a-c\\[\\].é＠☃\\PC]{0,9}",
            sign in "(:|\\?depth=|&password=)", odd in "[@/?#: %é]{0,3}", after in "[@/?#&=: %a-c\\PC]{0,9}",
        ) {
            let end = if sign == ":" { "@" } else { "" };
            let answer = parse(&format!("{before}{sign}s3cr3t{odd}{end}{after}"));
            let shown = match &answer {
                Ok(url) => format!("{url} {url:?} {}", url.refused("?")),
                Err(error) => format!("{error} {error:?}"),
            };
            // Without a ? there is no parameter.
            let is_meant = sign != "&password=" || before.contains('?');
            prop_assert!(!is_meant || !shown.contains("s3cr3t"), "{shown}");
        }
    }
}
