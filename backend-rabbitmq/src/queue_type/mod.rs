//! What differs between the broker's types of queue: pure answers.

pub(crate) mod classic;
