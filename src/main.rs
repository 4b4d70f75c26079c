//! The `seedring` program: a few commands over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    seedring::cli::run()
}
