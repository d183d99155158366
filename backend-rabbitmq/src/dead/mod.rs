//! Dead letters: written, kept, listed, redriven, discarded.

pub(crate) mod cursor;
pub(crate) mod listing;
pub(crate) mod redrive;
pub(crate) mod retention;
pub(crate) mod state;
pub(crate) mod walk;
