//! What a URL and the options say together.

use std::path::PathBuf;

use crate::backend::BrokerUrl;
use crate::{Error, Result, TlsOptions};

/// The parameters of a URL that say what [`TlsOptions`] say.
pub const TLS_PARAMETERS: [&str; 4] = ["ca", "cert", "key", "server_name"];

/// Both together; nothing where no encryption is asked for.
pub(super) fn asked(url: &BrokerUrl, encrypted: &str, options: &TlsOptions) -> Result<Option<TlsOptions>> {
    let file = |name, option: &Option<PathBuf>| once(name, url.parameter(name).map(PathBuf::from), option);
    let both = TlsOptions {
        ca: file("ca", &options.ca)?,
        cert: file("cert", &options.cert)?,
        key: file("key", &options.key)?,
        server_name: once(
            "server_name",
            url.parameter("server_name").map(str::to_owned),
            &options.server_name,
        )?,
    };
    let given =
        [both.ca.is_some(), both.cert.is_some(), both.key.is_some(), both.server_name.is_some()].into_iter();
    if url.scheme != encrypted {
        return match TLS_PARAMETERS.into_iter().zip(given).find(|(_, given)| *given) {
            None => Ok(None),
            Some((name, _)) => Err(Error::invalid(
                name,
                format!("{url} asks for no encryption: begin it with {encrypted}://, or leave {name} out"),
            )),
        };
    }
    match (&both.cert, &both.key) {
        (Some(_), None) => Err(Error::invalid("key", "cert is given without it: give its private key, too")),
        (None, Some(_)) => Err(Error::invalid("cert", "key is given without it: give its certificate, too")),
        _ => Ok(Some(both)),
    }
}

fn once<T: Clone>(name: &'static str, in_url: Option<T>, in_options: &Option<T>) -> Result<Option<T>> {
    match (in_url, in_options) {
        (Some(_), Some(_)) => {
            Err(Error::invalid(name, "the URL and ConnectOptions::tls both say it: say it once"))
        }
        (in_url, in_options) => Ok(in_url.or_else(|| in_options.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(text: &str, options: &TlsOptions) -> Result<Option<TlsOptions>> {
        asked(&BrokerUrl::parse(text, "x://host", &TLS_PARAMETERS).unwrap(), "xs", options)
    }

    #[test]
    fn url_and_options_say_the_same() {
        let in_options = TlsOptions::default().ca("/ca").client_certificate("/c", "/k").server_name("n");
        let in_url = asks("xs://host?ca=/ca&cert=%2Fc&key=/k&server_name=n", &TlsOptions::default());
        assert_eq!(in_url.unwrap(), Some(in_options.clone()));
        assert_eq!(asks("xs://host", &in_options).unwrap(), Some(in_options));
        assert_eq!(asks("x://host", &TlsOptions::default()).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        let none = TlsOptions::default();
        for (text, options, says) in [
            (
                "x://host?ca=/ca",
                none.clone(),
                "invalid ca: x://host?*** asks for no encryption: begin it with xs://",
            ),
            ("x://host", none.clone().server_name("n"), "invalid server_name"),
            ("xs://host?cert=/c", none.clone(), "invalid key"),
            ("xs://host?key=/k", none.clone(), "invalid cert"),
            ("xs://host?ca=/ca", none.clone().ca("/ca"), "say it once"),
        ] {
            let error = asks(text, &options).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains(says), "{error}");
        }
    }
}
