//! The suite on the Redis backend.

#[path = "support/redis.rs"]
mod support;

fn main() -> std::process::ExitCode {
    polyqueue_conformance::run(support::Redis::new())
}
