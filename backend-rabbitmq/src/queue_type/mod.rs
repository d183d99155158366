//! What differs between the broker's types of queue: pure answers.

pub(crate) mod behavior;
pub(crate) mod classic;
pub(crate) mod decide;
pub(crate) mod version;
