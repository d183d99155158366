//! The address of a broker: `memory://NAME?max_bytes=…`.

use polyqueue::backend::BrokerUrl;
use polyqueue::{Error, Result};

const FORM: &str = "memory://NAME or memory://NAME?max_bytes=BYTES";

/// The name of the provider, and of its scheme.
pub(crate) const NAME: &str = "memory";

/// The broker of whoever names none.
pub(crate) const DEFAULT_URL: &str = "memory://default";

/// How many bytes a broker holds at most, unless its URL says otherwise: 1 GiB.
pub(crate) const DEFAULT_MAX_BYTES: u64 = 1 << 30;

/// Where a broker is, and what it is to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) name: String,
    pub(crate) max_bytes: u64,
}

impl Address {
    /// # Errors
    /// [`Error::Invalid`] for anything but `memory://NAME`, optionally with `max_bytes`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let url = BrokerUrl::parse(text, FORM, &["max_bytes"])?;
        if url.scheme != NAME {
            return Err(url.refused("the scheme is not memory"));
        }
        if url.login.is_some() || url.port.is_some() || url.path.is_some() {
            return Err(url.refused("there is more than a name"));
        }
        let max_bytes = url.parameter("max_bytes").map(read_max_bytes).transpose()?;
        Ok(Self { name: url.host, max_bytes: max_bytes.unwrap_or(DEFAULT_MAX_BYTES) })
    }
}

fn read_max_bytes(text: &str) -> Result<u64> {
    let bytes = text.parse().ok().filter(|&bytes: &u64| bytes > 0);
    bytes.ok_or_else(|| Error::invalid("max_bytes", "allowed are whole numbers from 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_budget() {
        let default = Address::parse("memory://default").unwrap();
        assert_eq!(default, Address { name: "default".into(), max_bytes: DEFAULT_MAX_BYTES });
        assert_eq!(Address::parse("memory://x?max_bytes=77").unwrap().max_bytes, 77);
        assert_eq!(Address::parse("memory://cf-1_A.b/").unwrap().name, "cf-1_A.b");
    }

    #[test]
    fn everything_else_says_what_is_allowed() {
        for (url, field, says) in [
            ("memory://", "URL", "memory://NAME"),
            ("memory://a b", "URL", "memory://NAME"),
            ("memory", "URL", "memory://NAME"),
            ("memory://x/y", "URL", "more than a name"),
            ("memory://x:1", "URL", "more than a name"),
            ("memory://me:hunter2@x", "URL", "more than a name"),
            ("memory://me@x", "URL", "without a password"),
            ("memory://x:0", "URL", "1 to 65535"),
            ("memory://x#y", "URL", "#"),
            ("redis://x", "URL", "not memory"),
            ("memory://x?size=1", "URL", "max_bytes"),
            ("memory://x?max_bytes=1&max_bytes=1", "URL", "twice"),
            ("memory://x?max_bytes=0", "max_bytes", "from 1"),
            ("memory://x?max_bytes=1GiB", "max_bytes", "from 1"),
            ("memory://x?max_bytes=", "max_bytes", "from 1"),
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(&error, Error::Invalid { field: f, .. } if f == field), "{url}: {error}");
            assert!(error.to_string().contains(says), "{url}: {error}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
