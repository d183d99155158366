//! The `polyqueue` command.
fn main() {}
