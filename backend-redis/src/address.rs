//! Where the server is: a URL, taken apart and checked before anything is sent.

use std::fmt;

use polyqueue::{Error, Result, redacted};
use redis::{ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo};
use url::Url;

const FORM: &str = "allowed is redis://[user][:password]@host[:port][/database][?allow_eviction=true]";

/// The name of the provider, in errors and in addresses.
pub(crate) const NAME: &str = "redis";

/// A checked URL. `Debug` and `Display` show no password.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) endpoint: Endpoint,
    /// Credentials, database and protocol: RESP3, in which a server can tell us something unasked.
    pub(crate) login: RedisConnectionInfo,
    /// Whether a server that may evict keys is good enough.
    pub(crate) allow_eviction: bool,
    shown: String,
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let shown = redacted(text);
        let invalid = |what: &str| Error::invalid("URL", format!("{shown:?} {what}; {FORM}"));
        let mut url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
        match url.scheme() {
            "redis" => {}
            "rediss" => {
                let what = format!("TLS, which {shown} asks for: this build has none, use redis://");
                return Err(Error::unsupported(NAME, what));
            }
            other => return Err(invalid(&format!("has the scheme {other:?}"))),
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("has no host"));
        }
        let database = url.path().trim_matches('/');
        if !database.is_empty() && database.parse::<u16>().is_err() {
            return Err(invalid("has a database that is not a number"));
        }
        let allow_eviction = eviction(&url).map_err(|what| invalid(&what))?;
        url.set_query(None);
        let info = url.into_connection_info().map_err(|error| invalid(&error.to_string()))?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else { return Err(invalid("names no TCP port")) };
        let endpoint = Endpoint { host: host.clone(), port: *port };
        let login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self { endpoint, login, allow_eviction, shown })
    }
}

fn eviction(url: &Url) -> Result<bool, String> {
    let mut allowed = false;
    for (key, value) in url.query_pairs() {
        allowed = match (&*key, &*value) {
            ("allow_eviction", "true") => true,
            ("allow_eviction", "false") => false,
            ("allow_eviction", _) => return Err("has an allow_eviction that is not true or false".into()),
            (other, _) => return Err(format!("has an unknown parameter {other:?}")),
        };
    }
    Ok(allowed)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_are_taken() {
        assert!(!Address::parse("redis://127.0.0.1:6379").unwrap().allow_eviction);
        let address = Address::parse("redis://user:pass%20word@host/3?allow_eviction=true").unwrap();
        assert!(address.allow_eviction);
        assert_eq!(address.to_string(), "redis://user:***@host/3?allow_eviction=true");
        assert_eq!(address.endpoint.to_string(), "host:6379");
        assert_eq!(address.login.password(), Some("pass word"));
        assert_eq!((address.login.username(), address.login.db()), (Some("user"), 3));
        let address = Address::parse("redis://[::1]:7000").unwrap();
        assert_eq!((&*address.endpoint.host, &*address.endpoint.to_string()), ("::1", "[::1]:7000"));
    }

    #[test]
    fn bad_urls_say_what_is_allowed_and_no_password() {
        for url in [
            "redis://",
            "redis://:hunter2@",
            "redis://:hunter2@host:99999",
            "redis://:hunter2@host/x",
            "redis://:hunter2@host?allow_eviction=maybe",
            "redis://:hunter2@host?retries=3",
            "http://:hunter2@host",
            "host",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{url}: {error}");
            assert!(error.to_string().contains("redis://[user]"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn tls_is_refused_with_a_reason() {
        let error = Address::parse("rediss://:hunter2@host").unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
