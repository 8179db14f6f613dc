//! The `msrnn` command. Everything it does is in the library; here it is named and printed.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
