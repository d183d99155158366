//! The suite on the Redis backend.

#[path = "support/planted.rs"]
mod planted;
#[path = "support/redis.rs"]
mod support;

fn main() -> std::process::ExitCode {
    planted::run_with_plant(support::Redis::new())
}
