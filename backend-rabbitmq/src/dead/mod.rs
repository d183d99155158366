//! Dead letters: written, kept, listed, redriven, discarded.

pub(crate) mod listing;
pub(crate) mod retention;
