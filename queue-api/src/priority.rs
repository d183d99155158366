//! How urgent a message is.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// How urgent a message is: 1 to 10, 10 first; 5 unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Priority(u8);

impl Priority {
    /// 1.
    pub const LOWEST: Self = Self(1);
    /// 5.
    pub const DEFAULT: Self = Self(5);
    /// 10.
    pub const HIGHEST: Self = Self(10);

    /// A priority from a number.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless it is within 1 to 10.
    pub fn new(level: impl Into<i64>) -> Result<Self> {
        match level.into() {
            level @ 1..=10 => Ok(Self(level as u8)),
            level => Err(Error::invalid("priority", format!("{level} given, allowed are 1 to 10"))),
        }
    }

    /// A priority that is checked by the compiler when used in a `const`.
    ///
    /// ```
    /// use polyqueue::Priority;
    /// const URGENT: Priority = Priority::from_static(9);
    /// assert_eq!(Priority::new(9)?, URGENT);
    /// # Ok::<_, polyqueue::Error>(())
    /// ```
    ///
    /// ```compile_fail,E0080
    /// # use polyqueue::Priority;
    /// const URGENT: Priority = Priority::from_static(11); // not a priority: allowed are 1 to 10
    /// ```
    ///
    /// # Panics
    /// When it is not within 1 to 10.
    #[track_caller]
    pub const fn from_static(level: u8) -> Self {
        match level {
            1..=10 => Self(level),
            _ => panic!("not a priority: allowed are 1 to 10"),
        }
    }

    /// The number, 1 to 10.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_outside_1_to_10_name_the_range() {
        for level in [0_i64, 11, -1, 255] {
            assert!(Priority::new(level).unwrap_err().to_string().contains("1 to 10"));
        }
        assert_eq!(Priority::default().get(), 5);
        assert!(std::panic::catch_unwind(|| Priority::from_static(0)).is_err());
        assert!(std::panic::catch_unwind(|| Priority::from_static(11)).is_err());
    }
}
