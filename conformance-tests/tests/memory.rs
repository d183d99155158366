//! The suite on the memory backend.

#[path = "support/memory.rs"]
mod memory;
#[path = "support/planted.rs"]
mod planted;

fn main() -> std::process::ExitCode {
    planted::run_with_plant(memory::Memory::default())
}
