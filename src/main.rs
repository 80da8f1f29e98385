//! The `packhorse` command; everything it does is in [`packhorse::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    packhorse::cli::main()
}
