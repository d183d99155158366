//! The suite on the RabbitMQ backend.

#[path = "support/rabbitmq.rs"]
mod support;

fn main() -> std::process::ExitCode {
    polyqueue_conformance::run(support::Rabbit::new())
}
