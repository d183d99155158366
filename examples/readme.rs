//! The samples of the README and of the chapters in docs, compiled and run as tests, so that they cannot go stale.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/testing.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/shutdown.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/blocking-handlers.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/errors.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/several-services-on-one-queue.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/several-tenants.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/writing-a-backend.md"))]
