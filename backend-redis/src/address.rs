//! Where the server is: a URL, taken apart and checked before anything is sent.

use std::fmt;
use std::path::PathBuf;

use polyqueue::backend::{BrokerUrl, SocketUrl, TLS_PARAMETERS, TlsClient};
use polyqueue::{Error, Result, TlsOptions};
use redis::{ProtocolVersion, RedisConnectionInfo};

const FORM: &str = "redis://[[user]:password@]host[:port][/database][?allow_eviction=true], or the same with rediss:// and \
                    [?ca=FILE][&cert=FILE&key=FILE][&server_name=NAME]";
const SOCKET_FORM: &str =
    "redis+unix:///path/of/socket[?database=NUMBER][&user=USER][&password=PASSWORD][&allow_eviction=true]";
const DEFAULT_PORT: u16 = 6379;
const EVICTION: &str = "allow_eviction";

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
pub(crate) enum Endpoint {
    /// Encrypted where there is a client for it.
    Host { host: String, port: u16, tls: Option<TlsClient> },
    /// A socket of this machine.
    Socket(PathBuf),
}

impl Address {
    pub(crate) fn parse(text: &str, tls: &TlsOptions) -> Result<Self> {
        if SocketUrl::is_meant(text) { Self::of_socket(text, tls) } else { Self::of_host(text, tls) }
    }

    fn of_host(text: &str, tls: &TlsOptions) -> Result<Self> {
        let known = [EVICTION].into_iter().chain(TLS_PARAMETERS).collect::<Vec<_>>();
        let url = BrokerUrl::parse(text, FORM, &known)?;
        if !["redis", "rediss"].contains(&url.scheme.as_str()) {
            return Err(url.refused("the scheme is not redis, rediss or redis+unix"));
        }
        let refused = |fault: &str| url.refused(fault);
        let allow_eviction = eviction(url.parameter(EVICTION), refused)?;
        let login = url.login.as_ref().map(|login| (login.user.as_str(), login.password.as_str()));
        let login = login_of(url.path.as_deref(), login, refused)?;
        let tls = TlsClient::asked(NAME, &url, "rediss", tls)?;
        let shown = url.to_string();
        let endpoint = Endpoint::Host { host: url.host, port: url.port.unwrap_or(DEFAULT_PORT), tls };
        Ok(Self { endpoint, login, allow_eviction, shown })
    }

    fn of_socket(text: &str, tls: &TlsOptions) -> Result<Self> {
        let url = SocketUrl::parse(text, SOCKET_FORM, &["database", "user", "password", EVICTION])?;
        let refused = |fault: &str| url.refused(fault);
        if url.scheme != "redis+unix" {
            return Err(refused("the scheme is not redis+unix"));
        }
        if *tls != TlsOptions::default() {
            let said = format!(
                "{url} is a socket of this machine and is not encrypted: leave ConnectOptions::tls out"
            );
            return Err(Error::invalid("tls", said));
        }
        let allow_eviction = eviction(url.parameter(EVICTION), refused)?;
        let login = match (url.parameter("user"), url.parameter("password")) {
            (Some(_), None) => return Err(refused("a user stands without a password")),
            (user, password) => password.map(|password| (user.unwrap_or_default(), password)),
        };
        let login = login_of(url.parameter("database"), login, refused)?;
        let shown = url.to_string();
        Ok(Self { endpoint: Endpoint::Socket(url.path), login, allow_eviction, shown })
    }
}

fn eviction(given: Option<&str>, refused: impl Fn(&str) -> Error) -> Result<bool> {
    match given {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(refused("allow_eviction is not true or false")),
    }
}

fn login_of(
    database: Option<&str>,
    login: Option<(&str, &str)>,
    refused: impl Fn(&str) -> Error,
) -> Result<RedisConnectionInfo> {
    let mut info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if let Some(database) = database {
        let digits = database.bytes().all(|byte| byte.is_ascii_digit());
        let number = database.parse::<u16>().ok().filter(|_| digits);
        info = info.set_db(number.ok_or_else(|| refused("the database is not a number to 65535"))?.into());
    }
    if let Some((user, password)) = login {
        info = info.set_password(password);
        if !user.is_empty() {
            info = info.set_username(user);
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
        match self {
            Self::Host { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address> {
        Address::parse(text, &TlsOptions::default())
    }

    #[test]
    fn good_urls_are_taken() {
        assert!(!parse("redis://127.0.0.1:6379").unwrap().allow_eviction);
        let address = parse("redis://user:pass%20word@host/3?allow_eviction=true").unwrap();
        assert!(address.allow_eviction);
        assert_eq!(address.to_string(), "redis://***@host/3?***");
        assert_eq!(address.endpoint.to_string(), "host:6379");
        assert_eq!(address.login.password(), Some("pass word"));
        assert_eq!((address.login.username(), address.login.db()), (Some("user"), 3));
        let address = parse("redis://[::1]:7000").unwrap();
        assert!(matches!(&address.endpoint, Endpoint::Host { host, tls: None, .. } if host == "::1"));
        assert_eq!(address.endpoint.to_string(), "[::1]:7000");
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
            let error = parse(url).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{url}: {error}");
            assert!(error.to_string().contains(FORM), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_socket_has_its_login_in_parameters() {
        let text =
            "redis+unix:///run/redis.sock?database=3&user=us%26er&password=hunter2&allow_eviction=true";
        let address = parse(text).unwrap();
        assert!(address.allow_eviction);
        assert_eq!(address.to_string(), "redis+unix:///run/redis.sock?***");
        assert_eq!(address.endpoint.to_string(), "/run/redis.sock");
        assert_eq!((address.login.username(), address.login.db()), (Some("us&er"), 3));
        assert_eq!(address.login.password(), Some("hunter2"));
        let address = parse("redis+unix:///run/redis.sock").unwrap();
        assert_eq!((address.login.password(), address.login.db()), (None, 0));
    }

    #[test]
    fn bad_urls_of_sockets_say_what_is_allowed_and_no_password() {
        for url in [
            "redis+unix://:hunter2@/r.sock",
            "redis+unix:///r.sock?password=hunter2&database=x",
            "redis+unix:///r.sock?user=hunter2",
            "redis+unix:///r.sock?password=hunter2&allow_eviction=maybe",
            "redis+unix:///r.sock?password=hunter2&ca=/ca",
            "http+unix:///r.sock?password=hunter2",
        ] {
            let error = parse(url).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{url}: {error}");
            assert!(error.to_string().contains(SOCKET_FORM), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn encryption_is_never_left_out_silently() {
        let tls = TlsOptions::default().ca("/ca.pem");
        for url in ["redis://:hunter2@host", "redis+unix:///r.sock?password=hunter2"] {
            let error = Address::parse(url, &tls).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{url}: {error}");
            assert!(
                error.to_string().contains("encrypt") && !error.to_string().contains("hunter2"),
                "{error}"
            );
        }
        let error = parse("redis://:hunter2@host?server_name=other").unwrap_err();
        assert!(error.to_string().contains("rediss://"), "{error}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_the_feature_tls_is_refused_by_its_name() {
        let error = parse("rediss://:hunter2@host").unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("feature \"tls\" of polyqueue-redis"), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn files_that_cannot_be_used_are_said_before_anything_is_dialled() {
        let error = parse("rediss://:hunter2@nowhere.invalid?ca=/nowhere/ca.pem").unwrap_err();
        assert!(error.to_string().starts_with("invalid ca: \"/nowhere/ca.pem\" cannot be read"), "{error}");
    }
}
