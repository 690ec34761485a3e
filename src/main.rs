//! The command `eyekern`: see [`eyekern::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(eyekern::cli::main(std::env::args_os()))
}
