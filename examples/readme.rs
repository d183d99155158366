//! The README's sample, compiled as a test, so that it cannot go stale.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]
