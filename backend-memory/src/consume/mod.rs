//! A consumer and its receives.

pub(crate) mod consumer;
mod receive;
mod subscription;
