//! The address of a broker: `memory://NAME?max_bytes=…`.

use polyqueue::{Error, Result, redacted};
use url::Url;

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
        let url = Url::parse(text).map_err(|error| bad_url(text, &error.to_string()))?;
        let name = url.host_str().unwrap_or_default();
        if name.is_empty() {
            return Err(bad_url(text, "the name is missing"));
        }
        let bare = url.username().is_empty() && url.password().is_none() && url.port().is_none();
        if !bare || !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(bad_url(text, "there is more than a name"));
        }
        Ok(Self { name: name.to_owned(), max_bytes: max_bytes(&url)? })
    }
}

fn max_bytes(url: &Url) -> Result<u64> {
    let mut given = None;
    for (key, value) in url.query_pairs() {
        if key != "max_bytes" || given.is_some() {
            let fault = if given.is_some() { "given after max_bytes" } else { "is not known" };
            return Err(Error::invalid(
                "URL parameter",
                format!("{key:?} {fault}, allowed is max_bytes, once"),
            ));
        }
        let bytes = value.parse().ok().filter(|&bytes: &u64| bytes > 0);
        given = Some(bytes.ok_or_else(|| {
            Error::invalid("max_bytes", format!("{value:?} given, allowed are whole numbers from 1"))
        })?);
    }
    Ok(given.unwrap_or(DEFAULT_MAX_BYTES))
}

fn bad_url(text: &str, fault: &str) -> Error {
    let shown = redacted(text);
    Error::invalid(
        "URL",
        format!("{shown:?}: {fault}, allowed is memory://NAME or memory://NAME?max_bytes=BYTES"),
    )
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
            ("memory://x?size=1", "URL parameter", "max_bytes"),
            ("memory://x?max_bytes=1&max_bytes=1", "URL parameter", "once"),
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
