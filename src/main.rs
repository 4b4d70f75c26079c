//! The `seedring` program.
fn main() {}
