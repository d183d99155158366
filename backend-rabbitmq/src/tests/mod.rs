//! Tests of the whole backend that reach into it.

mod crashes;
mod starvation;
mod traffic;
