//! The suite on the memory backend.

#[path = "support/memory.rs"]
mod memory;

fn main() -> std::process::ExitCode {
    polyqueue_conformance::run(memory::Memory::default())
}
