//! Which RabbitMQ a broker is, by what it says of itself.

use std::fmt;

/// The version of a RabbitMQ. One that is yet to be released counts as the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServerVersion {
    pub(crate) major: u16,
    pub(crate) minor: u16,
    pub(crate) patch: u16,
}

impl ServerVersion {
    /// Reads `3.10.8` or `4.3.0-rc.1`; other products have versions that say nothing here.
    pub(crate) fn read(product: &str, version: &str) -> Option<Self> {
        if product != "RabbitMQ" {
            return None;
        }
        let release = version.split(['-', '+', '~']).next()?;
        let mut numbers = release.split('.').map(|number| number.parse().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        let patch = numbers.next().unwrap_or(Some(0))?;
        Some(Self { major, minor, patch })
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let read = |text| ServerVersion::read("RabbitMQ", text);
        for (text, shown) in [
            ("3.10.8", "3.10.8"),
            ("4.3", "4.3.0"),
            ("4.3.0-rc.1", "4.3.0"),
            ("4.0.5+14.g1f2a", "4.0.5"),
            ("3.8.9~rc2", "3.8.9"),
            ("4.3.0.1", "4.3.0"),
        ] {
            assert_eq!(read(text).map(|version| version.to_string()).as_deref(), Some(shown), "{text}");
        }
        assert!(read("3.10.8") < read("4.3.0"));
        assert!(read("3.9.30") < read("3.10.0"));
    }

    #[test]
    fn what_is_no_version_of_rabbitmq_is_none() {
        for text in ["", "4", "four.three", "4.", "4.3.x", "-4.3.0", "99999999.1.0"] {
            assert_eq!(ServerVersion::read("RabbitMQ", text), None, "{text}");
        }
        for product in ["", "LavinMQ", "rabbitmq"] {
            assert_eq!(ServerVersion::read(product, "4.3.0"), None, "{product}");
        }
    }
}
