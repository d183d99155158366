//! A URL as errors and logs may show it.

/// A URL fit for errors and logs: without its password and the values of its parameters, however malformed it is. Only what
/// can be recognized as harmless is shown.
pub fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        Some(_) => return HIDDEN.into(),
        None => (String::new(), url),
    };
    match rest.rsplit_once('@') {
        None => scheme + &place(rest),
        Some((login, place_given)) => format!("{scheme}{}@{}", user(login), place(place_given)),
    }
}

const HIDDEN: &str = "***";

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '%'))
}

/// The name in front of a password. A name alone may be a password in the wrong place.
fn user(login: &str) -> String {
    match login.split_once(':') {
        Some((name, _)) if is_plain(name) => format!("{name}:{HIDDEN}"),
        _ => HIDDEN.into(),
    }
}

/// Host, port, path, and the names of parameters.
fn place(text: &str) -> String {
    let (text, fragment) = text.split_once('#').map_or((text, ""), |(text, _)| (text, "#***"));
    let (text, query) = text.split_once('?').map_or((text, None), |(text, query)| (text, Some(query)));
    let (authority, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let path = if path.split('/').all(is_plain) { path } else { "/***" };
    let query = query.map(|query| format!("?{}", parameters(query))).unwrap_or_default();
    format!("{}{path}{query}{fragment}", host_and_port(authority))
}

fn host_and_port(authority: &str) -> String {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_v6 = inner.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let host = if is_v6 || is_plain(host) { host } else { HIDDEN };
    match port {
        None => host.into(),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("{host}:{port}"),
        Some(_) => format!("{host}:{HIDDEN}"),
    }
}

fn parameters(query: &str) -> String {
    let shown = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if is_plain(key) => format!("{key}={HIDDEN}"),
        _ => HIDDEN.into(),
    };
    query.split('&').map(shown).collect::<Vec<String>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::redacted;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_secret_is_shown() {
        for (url, shown) in [
            ("redis://:hunter2@host:6379/1", "redis://:***@host:6379/1"),
            ("amqp://us%20er:p@ss/w:rd@host/%2f", "amqp://us%20er:***@host/%2f"),
            ("redis://host", "redis://host"),
            ("redis://[::1]:6379/", "redis://[::1]:6379/"),
            ("redis://[::1]", "redis://[::1]"),
            ("user:hunter2@host", "user:***@host"),
            ("redis://hunter2@host", "redis://***@host"),
            ("redis://user:hunter2", "redis://user:***"),
            ("redis://host?password=hunter2&db=1", "redis://host?password=***&db=***"),
            ("redis://host#hunter2", "redis://host#***"),
            ("redis://host:99999", "redis://host:99999"),
            ("user:hunter2@redis://host", "***"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }

    proptest! {
        #[test]
        fn a_password_is_hidden_whatever_stands_around_it(
            before in around(), user in "[a-z]{0,4}", odd in "[^s]{0,3}", after in around(),
        ) {
            let url = format!("{before}{user}:s3cr3t{odd}@{after}");
            prop_assert!(!redacted(&url).contains("s3cr3t"), "{url:?} is shown as {:?}", redacted(&url));
        }

        #[test]
        fn a_parameter_s_value_is_hidden_whatever_stands_around_it(
            before in around(), sign in "[?&]", key in "[a-z_]{0,8}", after in around(),
        ) {
            let url = format!("{before}?x{sign}{key}=s3cr3t{after}");
            prop_assert!(!redacted(&url).contains("s3cr3t"), "{url:?} is shown as {:?}", redacted(&url));
        }
    }

    fn around() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("redis://".to_owned()),
            Just("amqp://host:5672/%2f?queue_type=auto".to_owned()),
            Just("redis://a:b@host:6379/1".to_owned()),
            "[ \\t\\n@:/?#&=%\\[\\]a-c.é＠：☃]{0,12}",
            any::<String>(),
        ]
    }
}
