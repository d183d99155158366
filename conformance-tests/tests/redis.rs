//! The suite on the Redis backend: on a private server, or on the one that `REDIS_URL` names.

#[path = "support/planted.rs"]
mod planted;
#[path = "support/redis.rs"]
mod support;

use std::sync::Arc;

use polyqueue_conformance::Stage;
use polyqueue_conformance::broker::{Broker, RedisBroker};

fn main() -> std::process::ExitCode {
    let stage = Stage::new("redis", "REDIS_URL", || {
        Box::pin(async { Ok(Arc::new(RedisBroker::start().await?) as Arc<dyn Broker>) })
    });
    planted::run_with_plant(support::Redis::on(stage))
}
