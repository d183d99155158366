//! What one client of a broker has of its own.

pub(crate) mod handle;
mod recent;
