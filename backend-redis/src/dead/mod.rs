//! Dead letters are listed, redriven and discarded.

pub(crate) mod listing;
pub(crate) mod redrive;
