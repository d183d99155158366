//! Where the broker is: the URL, taken apart and checked before anything is sent.

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use polyqueue::backend::BrokerUrl;
use polyqueue::{Error, Result};

use crate::queue_type::decide::Requested;

/// What this backend is called.
pub(crate) const NAME: &str = "rabbitmq";

const FORM: &str = "amqp://[user:password@]host[:port][/vhost][?queue_type=auto|classic]";
const DEFAULT_PORT: u16 = 5672;
const DEFAULT_LOGIN: &str = "guest";

/// A broker's address, with what its URL says beyond AMQP's own.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) uri: AMQPUri,
    pub(crate) queue_type: Requested,
    shown: String,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let url = BrokerUrl::parse(text, FORM, &["queue_type"])?;
        match url.scheme.as_str() {
            "amqp" => {}
            "amqps" => {
                let what = "amqps: it is built without TLS; use amqp over a network that is yours";
                return Err(Error::unsupported(NAME, what));
            }
            _ => return Err(url.refused("the scheme is not amqp")),
        }
        let queue_type = url.parameter("queue_type").map(read_queue_type).transpose()?.unwrap_or_default();
        let (userinfo, shown) = (userinfo(&url)?, url.to_string());
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority { userinfo, host: url.host, port: url.port.unwrap_or(DEFAULT_PORT) },
            vhost: url.path.unwrap_or_else(|| "/".into()),
            query: AMQPQueryString::default(),
        };
        Ok(Self { uri, queue_type, shown })
    }
}

fn userinfo(url: &BrokerUrl) -> Result<AMQPUserInfo> {
    match &url.login {
        None => Ok(AMQPUserInfo { username: DEFAULT_LOGIN.into(), password: DEFAULT_LOGIN.into() }),
        Some(login) if login.user.is_empty() => Err(url.refused("a password stands without a user")),
        Some(login) => Ok(AMQPUserInfo { username: login.user.clone(), password: login.password.clone() }),
    }
}

/// Reads the URL's `queue_type`.
fn read_queue_type(text: &str) -> Result<Requested> {
    match text {
        "auto" => Ok(Requested::Auto),
        "classic" => Ok(Requested::Classic),
        "quorum" => Err(Error::unsupported(
            NAME,
            "queue_type=quorum: quorum queues have strict priorities from RabbitMQ 4.3 on only, and are not \
             turned on yet; use auto or classic",
        )),
        _ => Err(Error::invalid("queue_type", "allowed are auto and classic")),
    }
}

/// Without the password.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_decoded_and_the_password_is_hidden() {
        let address =
            Address::parse("amqp://us%20er:p%40ss@broker:5673/my%2fhost?queue_type=classic").unwrap();
        assert_eq!(address.uri.authority.userinfo.username, "us er");
        assert_eq!(address.uri.authority.userinfo.password, "p@ss");
        assert_eq!((address.uri.authority.port, address.uri.vhost.as_str()), (5673, "my/host"));
        assert!(!format!("{address} {address:?}").contains("p%40ss"));
    }

    #[test]
    fn nobody_is_the_guest() {
        let authority = Address::parse("amqp://host").unwrap().uri.authority;
        assert_eq!((authority.userinfo.username.as_str(), authority.port), ("guest", 5672));
    }

    #[test]
    fn no_path_and_an_empty_one_mean_the_default_vhost() {
        for url in ["amqp://host", "amqp://host/", "amqp://host/%2f"] {
            assert_eq!(Address::parse(url).unwrap().uri.vhost, "/", "{url}");
        }
    }

    #[test]
    fn malformed_urls_are_invalid_without_their_password() {
        for url in [
            "amqp://",
            "amqp://user:hunter2@",
            "not a url",
            "http://host",
            "amqp://host:99999",
            "amqp://u:hunter2@host?heartbeat=1",
            "amqp://host?queue_type=stream",
            "amqp://host?queue_type=auto&queue_type=auto",
            "amqp://host#x",
            "amqp://host:0",
            "amqp://host/a/b",
            "amqp://hunter2@host",
            "amqp://:hunter2@host",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{url}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_unsupported() {
        for url in ["amqps://host", "amqp://host?queue_type=quorum"] {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{url}: {error}");
        }
    }

    #[test]
    fn quorum_says_from_which_version_it_works() {
        let error = read_queue_type("quorum").unwrap_err().to_string();
        assert!(error.contains("4.3"), "{error}");
    }
}
