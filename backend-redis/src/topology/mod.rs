//! The catalogue, and what changes it.

pub(crate) mod catalogue;
pub(crate) mod declare;
pub(crate) mod revival;
pub(crate) mod table;
