//! A URL as errors and logs may show it.

use crate::place::read_place;

/// A URL fit for errors and logs, however malformed it is: its scheme, host, port and path, where nothing else can be meant by
/// them. All else is `***`: a login, the parameters, and whatever stands where a secret may have been put by mistake.
pub fn redacted(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            let shown = if is_socket(scheme) { shown_socket(rest) } else { shown(scheme, rest) };
            format!("{scheme}://{}", shown.unwrap_or_else(|| HIDDEN.into()))
        }
        _ => HIDDEN.into(),
    }
}

const HIDDEN: &str = "***";

/// The schemes whose path is a name, a virtual host; of others only the number of a database is shown.
const NAMED_PATHS: [&str; 2] = ["amqp", "amqps"];

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Whether a URL of this scheme names a socket's file.
pub(crate) fn is_socket(scheme: &str) -> bool {
    scheme.to_ascii_lowercase().ends_with("+unix")
}

/// The path of a socket; nothing where something else stands there, too.
fn shown_socket(rest: &str) -> Option<String> {
    let (path, query) = rest.split_once('?').map_or((rest, ""), |(path, _)| (path, "?***"));
    let is_path =
        path.starts_with('/') && path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    (is_path && !rest.contains(['@', '#'])).then(|| format!("{path}{query}"))
}

/// What stands behind the scheme; nothing where it cannot be told what is the login and what the host.
fn shown(scheme: &str, rest: &str) -> Option<String> {
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if rest.contains('#') || tail.contains('@') {
        return None;
    }
    let (login, place) = match authority.split_once('@') {
        None => (None, authority),
        Some((login, place)) => (Some(login), place),
    };
    read_place(place).ok()?;
    let is_login = |login: &str| login.split_once(':').is_some_and(|(_, password)| !password.is_empty());
    let named = login.is_none_or(is_login) && NAMED_PATHS.contains(&scheme.to_ascii_lowercase().as_str());
    let login = login.map_or("", |_| "***@");
    let (path, query) = tail.split_once('?').map_or((tail, ""), |(path, _)| (path, "?***"));
    Some(format!("{login}{place}{}{query}", shown_path(path, named)))
}

fn shown_path(path: &str, named: bool) -> &str {
    let segment = path.strip_prefix('/').unwrap_or(path);
    let is_name = named && segment.chars().all(|c| c.is_ascii_alphanumeric() || "._-~%".contains(c));
    let is_number = segment.bytes().all(|byte| byte.is_ascii_digit()) && segment.parse::<u16>().is_ok();
    if segment.is_empty() || is_name || is_number { path } else { "/***" }
}

#[cfg(test)]
mod tests {
    use super::redacted;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_secret_is_shown() {
        for (url, shown) in [
            ("redis://:hunter2@host:6379/1", "redis://***@host:6379/1"),
            ("amqp://us%20er:p@host/%2f", "amqp://***@host/%2f"),
            ("AMQP://host/shop?queue_type=auto", "AMQP://host/shop?***"),
            ("redis://host", "redis://host"),
            ("redis://127.0.0.1:65535", "redis://127.0.0.1:65535"),
            ("redis://[::1]:6379/", "redis://[::1]:6379/"),
            ("redis://[::1]", "redis://[::1]"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
            ("redis+unix:///run/redis.sock?password=hunter2", "redis+unix:///run/redis.sock?***"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }

    #[test]
    fn what_may_be_a_secret_in_the_wrong_place_is_not() {
        for (url, shown) in [
            ("user:hunter2@host", "***"),
            ("hunter2", "***"),
            ("user:hunter2@redis://host", "***"),
            ("redis://hunter2@host", "redis://***@host"),
            ("redis://hunter2:@host", "redis://***@host"),
            ("redis://user:hunter2", "redis://***"),
            ("redis://u:73616213", "redis://***"),
            ("redis://:73616213", "redis://***"),
            ("redis://73616213", "redis://***"),
            ("amqp://us%20er:p@ss/w:rd@host/%2f", "amqp://***"),
            ("amqp://h?b=c@hunter2", "amqp://***"),
            ("amqp://a@b@hunter2", "amqp://***"),
            ("redis://host/hunter2", "redis://host/***"),
            ("redis://host/73616213", "redis://host/***"),
            ("amqp://hunter2@host/hunter2", "amqp://***@host/***"),
            ("amqp://host/a/hunter2", "amqp://host/***"),
            ("redis://host?hunter2=1&password=hunter2", "redis://host?***"),
            ("redis://host:1#hunter2", "redis://***"),
            ("redis+unix://:hunter2@/run/redis.sock", "redis+unix://***"),
            ("redis+unix:///run/redis.sock#hunter2", "redis+unix://***"),
            ("redis+unix:///run/redis.sock?x@hunter2", "redis+unix://***"),
            ("redis+unix://hunter2", "redis+unix://***"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }

    proptest! {
        #[test]
        fn a_secret_is_hidden_wherever_it_stands(
            before in around(), user in "[a-z]{0,4}", secret in "s3cr3t|73616213", odd in "[^s7]{0,3}", after in around(),
        ) {
            for text in [
                format!("{before}{user}:{secret}{odd}@{after}"),
                format!("{before}?x?{user}={secret}{after}"),
                format!("redis://{secret}:@{after}"),
                format!("redis://{user}:{secret}0000"),
                format!("redis://h/{secret}{after}"),
                format!("redis://h?{secret}{after}"),
                format!("redis://h?{user}=1&{user}={odd}@{secret}{after}"),
                format!("redis://h:1#{secret}{after}"),
            ] {
                let shown = redacted(&text);
                prop_assert!(!shown.contains(&secret), "{text:?} is shown as {shown:?}");
            }
        }

        #[test]
        fn nothing_is_shown_that_no_url_has_there(text in "[a-c]{1,3}://[ -~é☃\\n]{0,20}") {
            let shown = redacted(&text);
            let (_, rest) = shown.split_once("://").unwrap();
            let plain = rest.replace("***", "").chars().all(|c| c.is_ascii_alphanumeric() || "@:/?.[]-_%".contains(c));
            prop_assert!(plain && shown.matches('@').count() <= 1, "{text:?} is shown as {shown:?}");
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
