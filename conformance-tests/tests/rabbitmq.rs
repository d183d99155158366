//! The suite on the RabbitMQ backend.

#[path = "support/planted.rs"]
mod planted;
#[path = "support/rabbitmq.rs"]
mod support;

fn main() -> std::process::ExitCode {
    planted::run_with_plant(support::Rabbit::new())
}
