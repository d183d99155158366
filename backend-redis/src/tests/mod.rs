//! Tests of the whole backend that reach into it.

mod starvation;
mod traffic;
