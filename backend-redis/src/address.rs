//! Where the server is: a URL, taken apart and checked before anything is sent.

use std::fmt;

use polyqueue::backend::BrokerUrl;
use polyqueue::{Error, Result};
use redis::{ProtocolVersion, RedisConnectionInfo};

const FORM: &str = "redis://[[user]:password@]host[:port][/database][?allow_eviction=true]";
const DEFAULT_PORT: u16 = 6379;

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
        let url = BrokerUrl::parse(text, FORM, &["allow_eviction"])?;
        match url.scheme.as_str() {
            "redis" => {}
            "rediss" => {
                let what = format!("TLS, which {url} asks for: this build has none, use redis://");
                return Err(Error::unsupported(NAME, what));
            }
            _ => return Err(url.refused("the scheme is not redis")),
        }
        let allow_eviction = match url.parameter("allow_eviction") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(url.refused("allow_eviction is not true or false")),
        };
        let (login, shown) = (login(&url)?, url.to_string());
        let endpoint = Endpoint { host: url.host, port: url.port.unwrap_or(DEFAULT_PORT) };
        Ok(Self { endpoint, login, allow_eviction, shown })
    }
}

fn login(url: &BrokerUrl) -> Result<RedisConnectionInfo> {
    let mut info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if let Some(database) = &url.path {
        let digits = database.bytes().all(|byte| byte.is_ascii_digit());
        let number = database.parse::<u16>().ok().filter(|_| digits);
        info =
            info.set_db(number.ok_or_else(|| url.refused("the database is not a number to 65535"))?.into());
    }
    if let Some(login) = &url.login {
        info = info.set_password(&login.password);
        if !login.user.is_empty() {
            info = info.set_username(&login.user);
        }
    }
    Ok(info)
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
        assert_eq!(address.to_string(), "redis://***@host/3?***");
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
            "redis://:hunter2@host?allow_eviction=true&allow_eviction=true",
            "redis://:hunter2@host:0",
            "redis://:hunter2@host/3/",
            "redis://:hunter2@host/+3",
            "redis://:hunter2@host/65536",
            "redis://:hunter2@host#x",
            "redis://hunter2@host",
            "http://:hunter2@host",
            "host",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{url}: {error}");
            assert!(error.to_string().contains(FORM), "{error}");
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
