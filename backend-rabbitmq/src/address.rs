//! Where the broker is: the URL, taken apart and checked before anything is sent.

use lapin::uri::AMQPUri;
use polyqueue::{Error, Result, redacted};

use crate::queue_type::decide::Requested;

/// What this backend is called.
pub(crate) const NAME: &str = "rabbitmq";

/// A broker's address, with what its URL says beyond AMQP's own.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) uri: AMQPUri,
    pub(crate) queue_type: Requested,
    shown: String,
}

impl Address {
    /// Reads `amqp://user:password@host:port/vhost?queue_type=auto|classic`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let shown = redacted(text);
        let invalid = |why: &str| Error::invalid("URL", format!("{shown:?} given, {why}"));
        let url = url::Url::parse(text).map_err(|e| invalid(&format!("not a URL: {e}")))?;
        match url.scheme() {
            "amqp" => {}
            "amqps" => {
                let what = "amqps: it is built without TLS; use amqp over a network that is yours";
                return Err(Error::unsupported(NAME, what));
            }
            other => return Err(invalid(&format!("scheme {other:?}: allowed is amqp"))),
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("a host is missing: allowed is amqp://user:password@host:port/vhost"));
        }
        if url.fragment().is_some() {
            return Err(invalid("nothing may follow a #"));
        }
        let queue_type = read_query(&url)?;
        let uri = bare(url).parse::<AMQPUri>().map_err(|e| invalid(&e))?;
        Ok(Self { uri, queue_type, shown })
    }
}

/// The URL as AMQP knows it: without our query, and an empty path means the vhost `/`.
fn bare(mut url: url::Url) -> String {
    url.set_query(None);
    if url.path() == "/" {
        url.set_path("");
    }
    url.to_string()
}

fn read_query(url: &url::Url) -> Result<Requested> {
    let mut queue_type = Requested::default();
    for (key, value) in url.query_pairs() {
        match &*key {
            "queue_type" => queue_type = read_queue_type(&value)?,
            other => {
                let allowed = format!("{other:?} given, allowed is queue_type");
                return Err(Error::invalid("URL option", allowed));
            }
        }
    }
    Ok(queue_type)
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
        other => Err(Error::invalid("queue_type", format!("{other:?} given, allowed are auto and classic"))),
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
            "amqp://host#x",
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
