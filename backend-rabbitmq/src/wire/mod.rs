//! The wire format: our envelope as AMQP properties and headers beside an untouched body, and the names of our objects.
//!
//! The page that the crate's documentation links to describes it for programs in other languages.

pub(crate) mod boot;
pub(crate) mod browsed;
pub(crate) mod dead;
pub(crate) mod decode;
pub(crate) mod delay;
pub(crate) mod encode;
pub(crate) mod expiry;
pub(crate) mod hash;
pub(crate) mod headers;
pub(crate) mod names;
pub(crate) mod properties;
pub(crate) mod republish;
pub(crate) mod terms;
