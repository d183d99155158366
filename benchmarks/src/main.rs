//! polyqueue beside the raw client of each broker: the same broker, the same kind of queue, the same durability, in one
//! run, round about.
//!
//! ```sh
//! scripts/brokers both -- cargo run --release --manifest-path benchmarks/Cargo.toml
//! scripts/brokers redis -- cargo run --release --manifest-path benchmarks/Cargo.toml -- redis idle
//! ```

mod changes;
mod groups;
mod idle;
mod measure;
mod memory;
mod ours;
mod rabbitmq;
mod redis;
mod rpc;
mod worker;

/// Bytes of every payload.
const PAYLOAD: usize = 256;
/// Tasks that publish, one message at a time.
const PUBLISHERS: usize = 64;
/// Messages in one receive, one settle, one prefetch window.
const BATCH: usize = 100;
/// How often each contender runs; the medians are compared.
const ROUNDS: usize = 5;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|c| c == name);
    if wanted("memory") {
        memory::run().await?;
    }
    if wanted("redis") {
        redis::run().await?;
    }
    if wanted("rabbitmq") {
        rabbitmq::run().await?;
    }
    if wanted("rpc") {
        rpc::run().await?;
    }
    if wanted("changes") {
        changes::run().await?;
    }
    if wanted("groups") {
        groups::run().await?;
    }
    if wanted("worker") {
        worker::run().await?;
    }
    if wanted("idle") {
        idle::run().await?;
    }
    Ok(())
}
