//! Where the broker is: the URL, taken apart and checked before anything is sent.

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use polyqueue::backend::{BrokerUrl, TLS_PARAMETERS, TlsClient};
use polyqueue::{Error, Result, TlsOptions};

use crate::queue_type::decide::Requested;

/// What this backend is called.
pub(crate) const NAME: &str = "rabbitmq";

const FORM: &str = "amqp://[user:password@]host[:port][/vhost][?queue_type=auto|classic], or the same with amqps:// and \
                    [?ca=FILE][&cert=FILE&key=FILE][&server_name=NAME]";
const ENCRYPTED: &str = "amqps";
const DEFAULT_PORT: u16 = 5672;
const DEFAULT_ENCRYPTED_PORT: u16 = 5671;
const QUEUE_TYPE: &str = "queue_type";
const DEFAULT_LOGIN: &str = "guest";

/// A broker's address, with what its URL says beyond AMQP's own.
#[derive(Clone)]
pub(crate) struct Address {
    /// Its scheme is always `amqp`: what encrypts is ours, below the client library.
    pub(crate) uri: AMQPUri,
    /// Where it asks for encryption.
    pub(crate) tls: Option<TlsClient>,
    pub(crate) queue_type: Requested,
    shown: String,
}

impl Address {
    pub(crate) fn parse(text: &str, tls: &TlsOptions) -> Result<Self> {
        let known = [QUEUE_TYPE].into_iter().chain(TLS_PARAMETERS).collect::<Vec<_>>();
        let url = BrokerUrl::parse(text, FORM, &known)?;
        let default_port = match url.scheme.as_str() {
            "amqp" => DEFAULT_PORT,
            ENCRYPTED => DEFAULT_ENCRYPTED_PORT,
            _ => return Err(url.refused("the scheme is not amqp or amqps")),
        };
        let queue_type = url.parameter(QUEUE_TYPE).map(read_queue_type).transpose()?.unwrap_or_default();
        let tls = TlsClient::asked(NAME, &url, ENCRYPTED, tls)?;
        let (userinfo, shown) = (userinfo(&url)?, url.to_string());
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority { userinfo, host: url.host, port: url.port.unwrap_or(default_port) },
            vhost: url.path.unwrap_or_else(|| "/".into()),
            query: AMQPQueryString::default(),
        };
        Ok(Self { uri, tls, queue_type, shown })
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

    fn parse(text: &str) -> Result<Address> {
        Address::parse(text, &TlsOptions::default())
    }

    #[test]
    fn parts_are_decoded_and_the_password_is_hidden() {
        let address = parse("amqp://us%20er:p%40ss@broker:5673/my%2fhost?queue_type=classic").unwrap();
        assert_eq!(address.uri.authority.userinfo.username, "us er");
        assert_eq!(address.uri.authority.userinfo.password, "p@ss");
        assert_eq!((address.uri.authority.port, address.uri.vhost.as_str()), (5673, "my/host"));
        assert!(!format!("{address} {address:?}").contains("p%40ss"));
    }

    #[test]
    fn nobody_is_the_guest() {
        let authority = parse("amqp://host").unwrap().uri.authority;
        assert_eq!((authority.userinfo.username.as_str(), authority.port), ("guest", 5672));
    }

    #[test]
    fn no_path_and_an_empty_one_mean_the_default_vhost() {
        for url in ["amqp://host", "amqp://host/", "amqp://host/%2f"] {
            assert_eq!(parse(url).unwrap().uri.vhost, "/", "{url}");
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
            let error = parse(url).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{url}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_unsupported() {
        let error = parse("amqp://host?queue_type=quorum").unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }

    #[test]
    fn encryption_is_never_left_out_silently() {
        let tls = TlsOptions::default().ca("/ca.pem");
        let error = Address::parse("amqp://user:hunter2@host", &tls).unwrap_err().to_string();
        assert!(error.contains("begin it with amqps://") && !error.contains("hunter2"), "{error}");
        let error = parse("amqp://user:hunter2@host?server_name=other").unwrap_err().to_string();
        assert!(error.contains("begin it with amqps://") && !error.contains("hunter2"), "{error}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_the_feature_tls_is_refused_by_its_name() {
        let error = parse("amqps://user:hunter2@host").unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("feature \"tls\" of polyqueue-rabbitmq"), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn encryption_has_a_port_and_a_name_of_its_own() {
        let tls = TlsOptions::default().server_name("broker.example");
        let address = Address::parse("amqps://127.0.0.1/%2f", &tls).unwrap();
        assert_eq!((address.uri.authority.port, address.tls.is_some()), (5671, true));
        assert_eq!(parse("amqps://host:5673").unwrap().uri.authority.port, 5673);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn files_that_cannot_be_used_are_said_before_anything_is_dialled() {
        let error = parse("amqps://user:hunter2@nowhere.invalid?ca=/nowhere/ca.pem").unwrap_err();
        assert!(error.to_string().starts_with("invalid ca: \"/nowhere/ca.pem\" cannot be read"), "{error}");
    }

    #[test]
    fn quorum_says_from_which_version_it_works() {
        let error = read_queue_type("quorum").unwrap_err().to_string();
        assert!(error.contains("4.3"), "{error}");
    }
}
